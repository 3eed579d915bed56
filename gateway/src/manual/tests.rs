//! What the file knows is what the guide, the page and the example speak of, and nothing else; and all of them say the same
//! of a default.

use std::collections::{BTreeMap, BTreeSet};

use clap::{CommandFactory, Parser};

use super::*;
use crate::args::Args;
use crate::file::File;

const EXAMPLE: &str = include_str!("../../../deploy/gateway.toml");

/// No key is called like this.
const STRANGE: &str = "no-such-key";

/// What serde says that it expected in a table's place, if the table has fixed keys.
fn expected(text: &str) -> Option<Vec<String>> {
    let error = toml::from_str::<File>(text).err()?.to_string();
    let (_, expected) = error.split_once(&format!("unknown field `{STRANGE}`, expected"))?;
    let words = expected.split('`').skip(1).step_by(2);
    Some(words.map(str::to_owned).collect())
}

/// Every key that the file knows: `listen`, `limits.idle`, `rule.action`.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for key in expected(&format!("{STRANGE} = 0")).unwrap() {
        let tables = [format!("[{key}]"), format!("[[{key}]]")];
        let inner = tables.map(|table| expected(&format!("{table}\n{STRANGE} = 0")));
        match inner.into_iter().flatten().next() {
            Some(inner) => known.extend(inner.iter().map(|it| format!("{key}.{it}"))),
            None => drop(known.insert(key)),
        }
    }
    assert!(known.len() > 50, "{known:?}");
    known
}

/// What the guide says of each: the words of its default.
fn guide() -> BTreeMap<String, String> {
    let mut guide = BTreeMap::new();
    let blocks = blocks(GUIDE);
    for (table, keys) in blocks.iter().filter_map(Block::keys) {
        for key in keys {
            for name in key.names.split(", ") {
                let name = name.trim_matches('`');
                let full = match (table, name) {
                    ("", name) => name.to_owned(),
                    // Any name: the table itself.
                    (table, "*any name*") => table.to_owned(),
                    (table, name) => format!("{table}.{name}"),
                };
                let twice = guide.insert(full, key.default.to_owned());
                assert_eq!(twice, None, "{name} is told twice");
            }
        }
    }
    guide
}

/// The example with all its keys.
pub(crate) fn uncommented() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

fn flat(table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in table {
        let tables: Vec<_> = match value {
            toml::Value::Table(table) if key != "groups" => vec![table],
            toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        if tables.is_empty() {
            flat.insert(key.clone(), value.clone());
        }
        for table in tables {
            for (inner, value) in table {
                flat.insert(format!("{key}.{inner}"), value.clone());
            }
        }
    }
    flat
}

#[test]
fn every_key_is_in_the_guide_and_in_the_example_and_no_other() {
    let known = known();
    let told: BTreeSet<_> = guide().into_keys().collect();
    assert_eq!(told, known, "docs/gateway.md");
    let example: BTreeSet<_> = flat(&toml::from_str(&uncommented()).unwrap())
        .into_keys()
        .collect();
    assert_eq!(example, known, "deploy/gateway.toml");
}

#[test]
fn every_key_is_in_the_page() {
    let page = Page::Toml.text(Args::command());
    for key in known() {
        let name = key.rsplit('.').next().unwrap().replace('-', "\\-");
        let row = page
            .lines()
            .any(|line| line.starts_with("\\fB") && line.contains(&name));
        assert!(row || key == "groups", "{key}");
    }
}

#[test]
fn nothing_is_said_of_a_default_that_is_not_so() {
    let in_force = toml::to_string(&File::default().in_force()).unwrap();
    let (guide, example) = (guide(), flat(&toml::from_str(&uncommented()).unwrap()));
    for (key, value) in flat(&toml::from_str(&in_force).unwrap()) {
        // Of a list that is empty the example shows what could stand there.
        if value.as_array().is_some() || value.as_table().is_some() {
            continue;
        }
        assert_eq!(
            example.get(&key),
            Some(&value),
            "deploy/gateway.toml: {key}"
        );
        let said = guide.get(&key).unwrap();
        assert!(
            said.contains(&format!("`{value}`")) || *said == value.to_string(),
            "docs/gateway.md: {key} {said}"
        );
    }
}

#[test]
fn as_it_is_the_example_changes_nothing() {
    let file: File = toml::from_str(EXAMPLE).unwrap();
    let text = |file: File| toml::to_string(&file.in_force()).unwrap();
    assert_eq!(text(file), text(File::default()));
}

#[test]
fn every_flag_is_in_the_page_of_the_command() {
    let page = Page::Gateway.text(Args::command());
    for flag in Args::command().get_opts() {
        let long = flag.get_long().unwrap().replace('-', "\\-");
        assert!(page.contains(&long), "{long}");
    }
    assert!(Page::Passwd.text(Args::command()).contains("stdin"));
}

/// `--check`, with the files that it names.
#[test]
fn with_all_its_keys_the_example_makes_sense() {
    let folder = std::env::temp_dir().join(format!("socks6-example-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    write("passwords", "alice:s3cret\n");
    write("hq-password", "s3cret\n");
    for (certificate, key) in [
        ("gateway.pem", "gateway-key.pem"),
        ("branch.pem", "branch-key.pem"),
        ("ca.pem", "ca-key.pem"),
        ("hq-ca.pem", "hq-ca-key.pem"),
    ] {
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ed25519", "-nodes"])
            .args(["-subj", "/CN=gateway", "-out", certificate, "-keyout", key])
            .current_dir(&folder)
            .output();
        assert!(made.unwrap().status.success(), "{certificate}");
    }
    let path = write("gateway.toml", &uncommented());
    let args = [
        "socks6-gateway",
        "--check",
        "--config",
        path.to_str().unwrap(),
    ];
    let checked = Args::parse_from(args).config();
    std::fs::remove_dir_all(folder).unwrap();
    checked.unwrap();
}
