//! What a panic inside the library does to the program that called the hook: nothing that could leave the host by another way,
//! no end of the process, and no word. The library under test is one that panics when it is told to; victims/panics.c calls every
//! hooked function in it, with a panic at each of the gate's passages in turn, and at all of them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testkit::{
    Families, Family, HOLE, Origin, SERVER, Topology, artefacts, c_program, panicking_shim,
    repository_root,
};

/// DESIGN §6: redhook "after a panic calls libc's own function, which would be a leak for a name: so our gate lies inside its
/// body"; and no panic may unwind into a program that is not Rust.
#[test]
fn a_panic_in_any_hook_fails_the_call_or_changes_nothing() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let at = [
        topology.destination_address(Family::V6),
        topology.hole_address(Family::V6),
    ]
    .map(|address| SocketAddr::new(address, 7));
    let _dns = topology.dns();
    let _echo = Origin::echo(&topology.destination, &at);
    let (decoy, trap) = (topology.decoy(), topology.trap(&[7, 53]));
    let gateway = topology.start_gateway();
    let config = topology.dir().join("shim.conf");
    fs::write(&config, "sticky true\n").unwrap();
    let shim = topology
        .shim()
        .with("LD_PRELOAD", panicking_shim())
        .with("SOCKS6_CONFIG", &config);
    let program = c_program("victims/panics");
    let argv = [
        program.as_os_str(),
        SERVER.as_ref(),
        HOLE.as_ref(),
        NAME_SERVER.as_ref(),
    ];
    let plain = topology.neighbour(argv).run();
    let limit = Duration::from_secs(180);
    let with = topology.victim(argv).shim(&shim).limit(limit).run();
    with.expect_ok();
    assert_eq!(with.stderr, "", "a panic speaks");
    let leaks = (decoy.queries(), trap.connections());
    assert_eq!(leaks, (0, 0), "{with}\n{}", decoy.log());

    let text = with.stdout();
    let said: Vec<Said<'_>> = text.lines().map(Said::of).collect();
    let unpanicked: String = said
        .iter()
        .filter(|said| said.when == "never" && is_systems(said.situation))
        .map(|said| format!("{}\n", said.line))
        .collect();
    assert_eq!(unpanicked, plain.stdout(), "{plain}\n{}", gateway.log());

    let mut wrong = Vec::new();
    let mut usual = "";
    for said in &said {
        if said.when == "never" {
            usual = said.result;
        }
        if !said.is_right(usual) {
            wrong.push(said.line);
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), shim.log());

    let panicked = said.iter().filter(|said| said.has_panicked);
    let panicked: BTreeSet<&str> = panicked.map(|said| said.function).collect();
    let hooked = hooked();
    let untouched: Vec<&String> = hooked
        .iter()
        .filter(|function| !panicked.contains(function.as_str()) && !never_looks(function))
        .collect();
    assert!(untouched.is_empty(), "no panic has met {untouched:?}");
}

/// The way to panic is for this test alone.
#[test]
fn what_ships_cannot_be_told_to_panic() {
    let has_word = |library: &Path| {
        let octets = fs::read(library).unwrap();
        let word = b"socks6_panics";
        octets.windows(word.len()).any(|window| window == word)
    };
    assert!(has_word(panicking_shim()) && !has_word(&artefacts().shim));
}

/// The client's resolver, which answers whoever gets through to it.
const NAME_SERVER: &str = "203.0.113.53";

/// One line of the victim.
struct Said<'a> {
    line: &'a str,
    situation: &'a str,
    function: &'a str,
    when: &'a str,
    result: &'a str,
    has_panicked: bool,
}

impl<'a> Said<'a> {
    fn of(line: &'a str) -> Self {
        let (label, said) = line.split_once(": ").expect(line);
        let mut words = label.splitn(3, ' ');
        let mut word = || words.next().expect(line);
        let (situation, function, when) = (word(), word(), word());
        let result = said.trim_end_matches("; no panic");
        Self {
            line,
            situation,
            function,
            when,
            result,
            has_panicked: when != "never" && result == said,
        }
    }

    /// With a panic at one passage the call ends as it would without any, or as it does when all of them panic.
    fn is_right(&self, usual: &str) -> bool {
        let broken = self.broken().unwrap_or(usual);
        match (self.situation, self.when) {
            // Whoever looks first finds it still connecting, or connected.
            ("undriven", _) => matches!(self.result, "0" | "1, as it was set"),
            (_, "never") => self.result == usual,
            (_, "always") => self.result == broken,
            // Nothing has left yet when it comes to the answer.
            ("asking", _) if self.result == EIO => true,
            _ => self.result == usual || self.result == broken,
        }
    }

    /// What docs/hooks.md promises of a call whose every look panics; `None`: what libc's own function does.
    fn broken(&self) -> Option<&'static str> {
        Some(match (self.situation, self.function) {
            ("nowhere", "getaddrinfo" | "getaddrinfo_a" | "getnameinfo") => "EAI_FAIL",
            ("nowhere", "gethostid" | "fork") => return None,
            ("nowhere", function) if function.starts_with("gethostby") => "0, NO_RECOVERY",
            ("nowhere", function) if function.starts_with("posix_spawn") => "EIO",
            ("nowhere", function) if never_looks(function) => return None,
            ("nowhere" | "unconnected" | "datagram", _) => EIO,
            ("answered", _) => "octets of another",
            (_, "getpeername" | "getsockname") => EIO,
            ("asking", _) => "-1 ENETUNREACH",
            (
                "pending",
                "connect" | "shutdown" | "close" | "__close" | "fork" | "getsockopt" | "accept"
                | "accept4",
            ) => {
                return None;
            }
            ("pending", function) if is_wait(function) => return None,
            ("pending", _) => EIO,
            _ => return None,
        })
    }
}

const EIO: &str = "-1 EIO";

/// Those in which a program without the library does the same.
fn is_systems(situation: &str) -> bool {
    ["relayed", "plain", "pending"]
        .iter()
        .any(|kind| situation.starts_with(kind))
}

fn is_wait(function: &str) -> bool {
    let waits = ["poll", "select"];
    function != "epoll_ctl"
        && (waits.iter().any(|wait| function.contains(wait)) || function.starts_with("epoll"))
}

/// The r-commands are refused whatever their arguments.
fn never_looks(function: &str) -> bool {
    ["rcmd", "rexec", "ruserok", "iruserok"].contains(&function.trim_end_matches("_af"))
}

/// What docs/hooks.md says is hooked; scripts/symbols holds that page against the library.
fn hooked() -> Vec<String> {
    let page = fs::read_to_string(repository_root().join("docs/hooks.md")).unwrap();
    let hooked: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("| hooked |"))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`'))
        .filter(|word| !word.trim().is_empty())
        .map(str::to_owned)
        .collect();
    assert!(hooked.iter().any(|name| name == "connect"), "{hooked:?}");
    hooked
}
