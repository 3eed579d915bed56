//! `socks6 run` with a gateway, where it becomes the command; and everything that keeps it from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use rustix::fs::StatVfsMountFlags;
use testkit::skipped;

use crate::installation::{Bounded as _, Installation, stderr, stdout};

const RUN: &str = "run --gateway 192.0.2.1:1080 --";

#[test]
fn the_exit_status_is_the_commands_own() {
    let here = Installation::new("status");
    assert!(here.socks6(RUN).arg("true").bounded().status.success());
    assert_eq!(here.sh(RUN, "exit 7").bounded().status.code(), Some(7));
    assert_eq!(
        here.sh(RUN, "kill -TERM $$").bounded().status.signal(),
        Some(15)
    );
}

#[test]
fn nothing_stands_between_the_command_and_its_parent() {
    let here = Installation::new("exec");
    let child = here
        .sh(RUN, "echo $$ $PPID")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let expected = format!("{} {}\n", child.id(), std::process::id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), expected);
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_command_sees_the_shim_and_one_file_of_settings() {
    let here = Installation::new("environment");
    let output = here
        .sh(
            "run --",
            "echo $LD_PRELOAD; echo ${SOCKS6_GATEWAY-unset}; cat $SOCKS6_CONFIG; \
             stat -c %a $SOCKS6_CONFIG",
        )
        .env("LD_PRELOAD", here.library())
        .env("SOCKS6_GATEWAY", "192.0.2.7:1081")
        .bounded();
    let library = here.library().display().to_string();
    let expected = [&library, "unset", "# Written by", "gateway 192.0.2.7:1081"];
    let said = stdout(&output);
    for (line, expected) in said.lines().zip(expected) {
        assert!(line.starts_with(expected), "{said}");
    }
    assert_eq!(said.lines().last(), Some("600"));
}

#[test]
fn a_preload_that_is_there_stays_behind_ours() {
    let here = Installation::new("preload");
    let other = here.root.join("other.so");
    fs::copy(here.library(), &other).unwrap();
    let output = here
        .sh(RUN, "echo $LD_PRELOAD")
        .env("LD_PRELOAD", &other)
        .bounded();
    let expected = format!("{}:{}\n", here.library().display(), other.display());
    assert_eq!(stdout(&output), expected);
}

#[test]
fn within_a_run_another_one_uses_the_same_gateway() {
    let here = Installation::new("nested");
    let inner = here.program();
    let script = format!(
        "{} run -- sh -c 'echo $LD_PRELOAD; cat $SOCKS6_CONFIG'",
        inner.display()
    );
    let said = stdout(&here.sh(RUN, &script).bounded());
    assert!(said.contains("gateway 192.0.2.1:1080\n"), "{said}");
    assert_eq!(
        said.lines().next().unwrap(),
        here.library().to_str().unwrap()
    );
}

#[test]
fn a_command_that_is_not_there_or_not_executable_fails_as_env_does() {
    let here = Installation::new("missing");
    let text = here.root.join("text");
    fs::write(&text, "").unwrap();
    let orphan = here.script("orphan", "#!/no/such/interpreter\n");
    for (command, code, words) in [
        ("no-such-command", 127, "no-such-command: not found"),
        ("/no/such/command", 127, "/no/such/command: not found"),
        (text.to_str().unwrap(), 126, "Permission denied"),
        ("/", 126, "/: "),
    ] {
        let output = here.socks6(RUN).arg(command).bounded();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with("socks6: ") && said.contains(words),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(stdout(&output), "");
    }
    let output = here
        .socks6("run --unprotected -g 192.0.2.1")
        .arg(orphan)
        .bounded();
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).contains("the interpreter or loader that it names is not found"));
}

#[test]
fn a_text_without_an_interpreter_is_the_shells() {
    let here = Installation::new("text");
    let script = here.script("script", "echo \"$0 $1 $LD_PRELOAD\"\n");
    let output = here.socks6(RUN).arg(&script).arg("one").bounded();
    let expected = format!("{} one {}\n", script.display(), here.library().display());
    assert_eq!(stdout(&output), expected);
}

#[test]
fn without_the_shim_nothing_runs() {
    let here = Installation::new("library");
    let ran = here.root.join("ran");
    let mut run = here.sh(RUN, &format!("touch {}", ran.display()));
    fs::write(here.library(), "not a library").unwrap();
    let output = run.bounded();
    assert_eq!(output.status.code(), Some(125));
    fs::remove_file(here.library()).unwrap();
    let output = run.bounded();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr(&output).contains("SOCKS6_LIB"),
        "{}",
        stderr(&output)
    );
    assert!(!ran.exists());

    let elsewhere = here.root.join("elsewhere.so");
    fs::copy("/proc/self/exe", &elsewhere).unwrap(); // as good as a library to the launcher
    let output = here
        .sh(RUN, "echo $LD_PRELOAD")
        .env("SOCKS6_LIB", &elsewhere)
        .bounded();
    assert_eq!(stdout(&output), format!("{}\n", elsewhere.display()));
}

#[test]
fn the_shim_is_found_where_it_is_installed() {
    let here = Installation::new("installed");
    let lib = here.root.join("lib");
    fs::create_dir(&lib).unwrap();
    fs::rename(here.library(), lib.join("libsocks6.so")).unwrap();
    let output = here.sh(RUN, "echo $LD_PRELOAD").bounded();
    assert_eq!(stdout(&output), format!("{}/libsocks6.so\n", lib.display()));
}

#[test]
fn a_program_out_of_reach_is_refused_unless_the_user_insists() {
    let here = Installation::new("static");
    let program = here.c_program("program", "int main(void) { return 5; }\n", &["-static"]);

    let output = here.socks6(RUN).arg(&program).bounded();
    assert_eq!(output.status.code(), Some(125));
    let said = stderr(&output);
    assert!(
        said.contains("statically linked") && said.contains("--unprotected"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);

    let mut unprotected = here.socks6("run --unprotected --gateway 192.0.2.1");
    let output = unprotected.arg(&program).bounded();
    assert_eq!(output.status.code(), Some(5));
    assert!(
        stderr(&output).ends_with("its connections go direct\n"),
        "{}",
        stderr(&output)
    );

    // The same behind a script.
    let script = here.script("script", &format!("#!{} -x\n", program.display()));
    assert_eq!(
        here.socks6(RUN).arg(script).bounded().status.code(),
        Some(125)
    );
}

/// musl's loader ends a program when it cannot load what LD_PRELOAD names.
#[test]
fn another_libcs_program_runs_unprotected_without_the_shim() {
    let here = Installation::new("loader");
    let loader = here.root.join("ld-other.so");
    fs::copy("/lib64/ld-linux-x86-64.so.2", &loader).unwrap();
    let program = here.c_program(
        "program",
        "#include <stdio.h>\n#include <stdlib.h>\n\
         int main(void) { puts(getenv(\"LD_PRELOAD\")); return 5; }\n",
        &[&format!("-Wl,--dynamic-linker={}", loader.display())],
    );
    let output = here.socks6(RUN).arg(&program).bounded();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr(&output).contains("not by glibc"),
        "{}",
        stderr(&output)
    );

    let mut unprotected = here.socks6("run --unprotected --gateway 192.0.2.1");
    let output = unprotected.env("LD_PRELOAD", "").arg(&program).bounded();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(stdout(&output), "\n");
    assert!(
        stderr(&output).ends_with("its connections go direct, and those of what it starts\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn set_user_id_of_somebody_else_is_out_of_reach() {
    let here = Installation::new("set-user-id");
    let program = here.root.join("program");
    assert!(
        Command::new("cp")
            .arg("/bin/true")
            .arg(&program)
            .bounded()
            .status
            .success()
    );
    let is_ignored = rustix::thread::no_new_privs().unwrap()
        || rustix::fs::statvfs(&program)
            .unwrap()
            .f_flag
            .contains(StatVfsMountFlags::NOSUID);
    if is_ignored || std::os::unix::fs::chown(&program, Some(65533), None).is_err() {
        return skipped("it needs root and a file system without nosuid");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let output = here.socks6(RUN).arg(&program).bounded();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr(&output).contains("set-user-ID"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn strict_starts_no_gateway_of_its_own() {
    let here = Installation::with_gateway("strict");
    let output = here.socks6("run --strict true").bounded();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("--strict"), "{}", stderr(&output));
    assert!(!here.has("pids"));
}

#[test]
fn a_wrong_setting_is_said_and_nothing_runs() {
    let here = Installation::new("setting");
    for words in [
        "run -g a:b:c true",
        "run --log loud true",
        "run -c /no/such.toml true",
    ] {
        let output = here.socks6(words).bounded();
        assert_eq!(output.status.code(), Some(125), "{words}");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    assert_eq!(
        here.socks6("run --no-such-option true")
            .bounded()
            .status
            .code(),
        Some(125)
    );
    assert_eq!(here.socks6("run").bounded().status.code(), Some(125));
    assert_eq!(here.socks6("--help").bounded().status.code(), Some(0));
}

#[test]
fn a_shell_says_that_it_is_one() {
    let here = Installation::new("shell");
    let mut shell = here.socks6("shell --gateway 192.0.2.1");
    let output = shell.env("SHELL", "/bin/sh").stdin(Stdio::null()).bounded();
    assert!(output.status.success());
    let said = stderr(&output);
    assert_eq!(
        said,
        "socks6: /bin/sh under the shim, gateway 192.0.2.1:1080; exit ends it\n"
    );
}

/// `socks6 run --strict`: "refuse what cannot be guaranteed". The system call is the program's own, past all of libc.
#[test]
fn strict_takes_io_uring_and_new_privileges_from_a_run() {
    let here = Installation::new("strict");
    // setup, enter, register: another program may have given it its ring.
    let source = "#include <sys/syscall.h>\n\
        int main(void) {\n\
            long result = -38;\n\
            for (long call = SYS_io_uring_setup; call <= SYS_io_uring_register && result == -38; call++)\n\
                asm volatile(\"syscall\" : \"=a\"(result)\n\
                    : \"a\"(call), \"D\"(0), \"S\"(0), \"d\"(0) : \"rcx\", \"r11\", \"memory\");\n\
            return -result;\n\
        }\n";
    let program = here.c_program("ring", source, &[]);
    let strict = "run --strict --gateway 192.0.2.1:1080 --";
    let output = here.socks6(strict).arg(&program).bounded();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(38), "ENOSYS: {said}");
    assert!(
        said.contains("no io_uring") && said.lines().count() == 1,
        "{said}"
    );
    for (run, privileges) in [(RUN, "NoNewPrivs:\t0\n"), (strict, "NoNewPrivs:\t1\n")] {
        let output = here.sh(run, "grep NoNewPrivs /proc/self/status").bounded();
        assert_eq!(stdout(&output), privileges, "{run}");
    }
}

#[test]
fn strict_and_unprotected_exclude_each_other() {
    let here = Installation::new("strictly");
    let program = here.c_program("program", "int main(void) { return 5; }\n", &["-static"]);
    fs::write(here.root.join("strict.toml"), "strict = true\n").unwrap();
    let file = format!(
        "run -c {}/strict.toml -g 192.0.2.1 --unprotected",
        here.root.display()
    );
    for words in ["run --strict --unprotected -g 192.0.2.1", &file] {
        let output = here.socks6(words).arg(&program).bounded();
        assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    }
}

/// docs/configuration.md: "prints such a file".
#[test]
fn what_import_prints_is_a_configuration() {
    let here = Installation::new("import");
    let theirs = here.root.join("proxychains.conf");
    let text = "localnet 10.0.0.0/255.0.0.0\n[ProxyList]\nsocks5 192.0.2.7 1081 alice se#cret\n";
    fs::write(&theirs, text).unwrap();
    let imported = here.socks6("import").arg(&theirs).bounded();
    let ours = here.root.join("ours.toml");
    fs::write(&ours, &imported.stdout).unwrap();
    let run = format!("run --config {} --", ours.display());
    let said = stdout(&here.sh(&run, "cat $SOCKS6_CONFIG").bounded());
    for line in [
        "gateway socks5://alice:se%23cret@192.0.2.7:1081\n",
        "rule direct 10.0.0.0/8\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
    fs::write(&theirs, "[ProxyList]\nhttp 192.0.2.7 8080\n").unwrap();
    let refused = here.socks6("import").arg(&theirs).bounded();
    assert_eq!(refused.status.code(), Some(125));
    assert_eq!(stdout(&refused), "");
}
