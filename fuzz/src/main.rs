//! Built by `scripts/fuzz` this is libFuzzer, with the target that `SOCKS6_FUZZ_TARGET` names. Built otherwise it runs
//! inputs through a target, such as one that libFuzzer has found: `cargo run -p fuzz -- TARGET FILE...`

#![cfg_attr(fuzzing, no_main)]
#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "there is nobody to hand an error to"
)]

#[cfg(fuzzing)]
mod guided {
    use std::sync::OnceLock;

    use fuzz::{Target, find};

    static TARGET: OnceLock<Target> = OnceLock::new();

    fn chosen() -> Target {
        let name = std::env::var("SOCKS6_FUZZ_TARGET").unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("SOCKS6_FUZZ_TARGET: there is no target \"{name}\""))
    }

    libfuzzer_sys::fuzz_target!(|input: &[u8]| {
        (TARGET.get_or_init(chosen).run)(input);
    });
}

#[cfg(not(fuzzing))]
fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    let target = name.to_str().and_then(fuzz::find);
    let target = target.expect("usage: fuzz TARGET FILE...");
    for path in arguments {
        let input = std::fs::read(&path).expect("a file to read");
        (target.run)(&input);
    }
}
