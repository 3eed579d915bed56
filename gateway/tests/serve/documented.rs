//! The manual and the completions, as the binary prints them. That no key is missing is held beside gateway/src/manual.rs.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::binary::BINARY;

fn printed(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}"
    );
    output.stdout
}

/// Standard output and standard error of a filter that succeeds.
fn through(program: &str, arguments: &[&str], text: &[u8]) -> [String; 2] {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&text));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap())
}

#[test]
fn every_page_of_the_manual_is_set_without_a_warning() {
    if !testkit::has_tool("/usr/bin/groff") {
        return;
    }
    for (page, word) in [
        ("gateway", "--allow-destination"),
        ("passwd", "--stdin"),
        ("toml", "client-prefix-v6"),
    ] {
        let text = printed(&["man", page]);
        // Without colours, bold or underlining: words stay whole.
        let plain = ["-ww", "-man", "-Kutf8", "-Tutf8", "-P-cbuo"];
        let [set, warnings] = through("groff", &plain, &text);
        assert_eq!(warnings, "", "{page}");
        assert!(set.contains("NAME") && set.contains(word), "{page}: {set}");
    }
}

#[test]
fn a_shell_understands_its_completions() {
    let [_, said] = through("bash", &["-n"], &printed(&["completions", "bash"]));
    assert_eq!(said, "");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = String::from_utf8(printed(&["completions", shell])).unwrap();
        assert!(text.contains("allow-destination"), "{shell}");
    }
}
