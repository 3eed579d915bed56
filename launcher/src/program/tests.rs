use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A folder of the test's own, with files of these contents and modes.
fn folder(name: &str, files: &[(&str, &str, u32)]) -> PathBuf {
    let folder = env::temp_dir().join(format!("socks6-program-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (file, text, mode) in files {
        let path = folder.join(file);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    folder
}

fn program(path: PathBuf) -> Program {
    Program {
        path,
        is_plain_text: false,
    }
}

#[test]
fn a_bare_name_is_looked_for_in_path_and_a_path_is_taken_as_it_is() {
    let one = folder("one", &[("tool", "#!/bin/sh\n", 0o644)]);
    let two = folder("two", &[("tool", "#!/bin/sh\n", 0o755)]);
    let path = env::join_paths([&one, &two]).unwrap();
    let found = |command: &str| find(OsStr::new(command), Some(path.clone()));
    assert_eq!(found("tool").unwrap(), two.join("tool"));
    assert_eq!(found("./no/such/tool").unwrap_err().exit_code(), 127);
    assert_eq!(found("no-such-tool").unwrap_err().exit_code(), 127);
    assert_eq!(found("").unwrap_err().exit_code(), 127);
    assert_eq!(
        found(one.join("tool").to_str().unwrap())
            .unwrap_err()
            .exit_code(),
        126
    );
    assert_eq!(found(one.to_str().unwrap()).unwrap_err().exit_code(), 126);
    // EACCES is told rather than ENOENT, as execvp(3) does.
    let only_one = Some(one.clone().into_os_string());
    assert_eq!(
        find(OsStr::new("tool"), only_one).unwrap_err().exit_code(),
        126
    );
    fs::remove_dir_all(one).unwrap();
    fs::remove_dir_all(two).unwrap();
}

#[test]
fn a_script_is_judged_by_what_interprets_it() {
    let folder = folder(
        "scripts",
        &[
            // Its headers end before they say anything.
            ("broken", "\x7fELF", 0o755),
            ("plain", "echo\n", 0o755),
            ("sh", "#!/bin/sh -e\n", 0o755),
            ("env", "#!/usr/bin/env sh\n", 0o755),
            ("split", "#!/usr/bin/env -S A=b sh -e\n", 0o755),
        ],
    );
    let broken = folder.join("broken");
    fs::write(
        folder.join("outer"),
        format!("#! {}  -x\n", broken.display()),
    )
    .unwrap();
    fs::write(
        folder.join("outmost"),
        format!("#!{}\n", folder.join("outer").display()),
    )
    .unwrap();
    for name in ["plain", "sh", "env", "split"] {
        assert_eq!(program(folder.join(name)).obstacle(), None, "{name}");
    }
    let env = format!("#!/usr/bin/env -S A=b {}\n", broken.display());
    fs::write(folder.join("behind"), env).unwrap();
    for name in ["broken", "outer", "outmost", "behind"] {
        let (culprit, obstacle) = program(folder.join(name)).obstacle().unwrap();
        assert_eq!(culprit, broken, "{name}");
        assert!(matches!(obstacle, Obstacle::Unknown(_)), "{name}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn scripts_that_interpret_one_another_come_to_an_end() {
    let folder = folder("loop", &[]);
    let script = folder.join("script");
    fs::write(&script, format!("#!{}\n", script.display())).unwrap();
    assert_eq!(program(script).obstacle(), None);
    fs::remove_dir_all(folder).unwrap();
}
