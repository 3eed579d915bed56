//! What developers and distributions put around a program: tracers, sanitizers, other libraries that are preloaded, and
//! shell scripts by the thousand.

use std::os::unix::fs::MetadataExt as _;

use testkit::{
    Ending, Families, Gateway, Origin, Outcome, SERVER, Shim, Topology, c_program, c_program_with,
    has_tool,
};

/// A v4-only client, and a web server that has IPv6 alone.
struct Bench {
    topology: Topology,
    gateway: Gateway,
    http: Origin,
    _dns: testkit::DnsServer,
}

impl Bench {
    fn new() -> Option<Self> {
        let topology = Topology::new(Families::V4, Families::V6)?;
        Some(Self {
            gateway: topology.start_gateway(),
            http: Origin::banner(
                &topology.destination,
                &topology.destination_sockets(7),
                b"hello\n",
            ),
            _dns: topology.dns(),
            topology,
        })
    }

    /// Under the shim.
    fn run(&self, shim: &Shim, argv: &[&str]) -> Outcome {
        self.topology.victim(argv).shim(shim).run()
    }
}

fn connect() -> String {
    c_program("victims/connect").display().to_string()
}

/// What victims/connect says when all is well.
fn assert_relayed(outcome: &Outcome, bench: &Bench) {
    let said = outcome.stdout();
    assert!(outcome.is_ok(), "{outcome}\n{}", bench.gateway.log());
    assert!(
        said.contains("connect: 0\n") && said.contains("hello\nend: 0\n"),
        "{outcome}"
    );
}

/// strace(1): what it shows are the calls of the shim; what the program says is the same.
#[test]
fn a_program_under_strace_is_relayed() {
    if !has_tool("/usr/bin/strace") {
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let outcome = bench.run(
        &bench.topology.shim(),
        &[
            "/usr/bin/strace",
            "-f",
            "-o",
            "trace",
            &connect(),
            SERVER,
            "7",
        ],
    );
    assert_relayed(&outcome, &bench);
}

/// ASan has interceptors of its own for most of what is hooked here. It wants to be the first library, and ends a program
/// where it is not, unless told that this is known: docs/configuration.md.
#[test]
fn a_program_with_address_sanitizer_is_relayed_or_does_not_run() {
    let Some(bench) = Bench::new() else { return };
    let program = c_program_with("victims/connect", &["-fsanitize=address"]);
    let argv = [program.to_str().unwrap(), SERVER, "7"];
    let shim = bench.topology.shim();
    let refused = bench.run(&shim, &argv);
    assert_eq!(refused.ending, Ending::Exit(1), "{refused}");
    assert!(
        refused.stderr.contains("ASan runtime does not come first"),
        "{refused}"
    );
    assert_eq!(bench.http.connections(), 0);

    let shim = shim.with("ASAN_OPTIONS", "verify_asan_link_order=0");
    let outcome = bench.run(&shim, &argv);
    assert_relayed(&outcome, &bench);
    assert_eq!(outcome.stderr, "", "{outcome}");
}

/// Allocators of their own, before the shim and behind it: both look functions up while the other is not ready yet.
#[test]
fn another_allocator_may_be_preloaded_too() {
    for allocator in [
        "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
        "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    ] {
        if !has_tool(allocator) {
            return;
        }
        let Some(bench) = Bench::new() else { return };
        let ours = testkit::artefacts().shim.display().to_string();
        for preload in [format!("{allocator} {ours}"), format!("{ours} {allocator}")] {
            let shim = bench.topology.shim().with("LD_PRELOAD", &preload);
            let outcome = bench.run(&shim, &[&connect(), SERVER, "7"]);
            assert_relayed(&outcome, &bench);
            let python = format!(
                "import socket, concurrent.futures as f\n\
                 def one(i): return socket.create_connection(('{SERVER}', 7)).recv(6)\n\
                 with f.ThreadPoolExecutor(8) as pool: print(set(pool.map(one, range(40))))"
            );
            let outcome = bench.run(&shim, &["/usr/bin/python3", "-c", &python]);
            assert_eq!(outcome.stdout(), "{b'hello\\n'}\n", "{preload}: {outcome}");
        }
    }
}

/// A thousand processes of a shell script, as configure makes them: the same output, nothing on stderr, and nothing that
/// stays: no file, no zombie, no growth of the mapping table.
#[test]
fn a_script_of_many_processes_leaves_nothing_behind() {
    let Some(bench) = Bench::new() else { return };
    let script = "i=0; while [ $i -lt 1000 ]; do\n\
         /bin/true; v=$(expr $i + 5); t=$(echo \"checking $i\" | sed s/checking/x/)\n\
         i=$v; done; echo \"$t\"; ps -o stat= --ppid $$ | grep -c Z";
    let argv = ["/bin/sh", "-c", script];
    let plain = bench.topology.victim(argv).run();
    let shim = bench.topology.shim();
    let table = bench.topology.dir().join("table");
    // One look-up, so that there is something in the table.
    assert_relayed(&bench.run(&shim, &[&connect(), SERVER, "7"]), &bench);
    let blocks = || std::fs::metadata(&table).unwrap().blocks();
    // But for what the victims say.
    let files = || {
        let names = std::fs::read_dir(bench.topology.dir()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| !name.to_string_lossy().starts_with("victim-"))
            .count()
    };
    let (blocks_before, files_before) = (blocks(), files());
    let shimmed = bench.run(&shim, &argv);
    assert_eq!(plain.stdout(), "x 995\n0\n", "{plain}");
    assert_eq!((shimmed.stdout(), &*shimmed.stderr), (plain.stdout(), ""));
    assert_eq!((blocks(), files()), (blocks_before, files_before));
}
