//! A system that has nothing more to give: descriptors, threads, memory, pipes. Relays that run go on, octet by octet;
//! further clients wait, and are served afterwards.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::{Domain, Socket, Type};

use crate::binary::{BINARY, Binary};
use crate::harness::{connect, echo, pattern, read, read_reply, request, until};
use crate::limits::has_reply;

/// A relay that carries octets both ways all the time, and looks at each of them.
struct Running {
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn through(gateway: &Binary) -> Self {
        let mut client = relay(gateway, echo());
        let (is_over, rounds) = (Arc::default(), Arc::default());
        let (over, round): (Arc<AtomicBool>, Arc<AtomicUsize>) =
            (Arc::clone(&is_over), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let octets = pattern(4 << 20, round.load(Ordering::Relaxed) as u64);
                let mut sending = client.try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| sending.write_all(&octets).unwrap());
                    assert!(read(&mut client, octets.len()) == octets, "other octets");
                });
                round.fetch_add(1, Ordering::Relaxed);
                // A buffer or pipe goes back in between, and is to be had again.
                thread::sleep(Duration::from_millis(250));
            }
        });
        Self {
            is_over,
            rounds,
            thread: Some(thread),
        }
    }

    #[track_caller]
    fn goes_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        // One may have been under way.
        until("a running relay", || {
            self.rounds.load(Ordering::Relaxed) >= before.saturating_add(2)
        });
    }

    fn ends(mut self) {
        self.goes_on();
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn relay(gateway: &Binary, to: SocketAddr) -> TcpStream {
    let mut client = connect(gateway.address());
    client.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client
}

/// More clients than there is anything for, who have all said what they want.
fn crowd(gateway: &Binary, clients: usize) -> Vec<TcpStream> {
    let to = echo();
    (0..clients)
        .map(|_| {
            let mut client = connect(gateway.address());
            client.write_all(&request(to)).unwrap();
            client
        })
        .collect()
}

#[track_caller]
fn serves_as_before(gateway: &Binary) {
    let to = echo();
    // At first the last descriptor may go to the client itself, and none is left for the dial.
    until("as before", || {
        let mut late = connect(gateway.address());
        late.write_all(&request(to)).unwrap();
        let is_served = has_reply(&mut late) && read_reply(&mut late) == 0x00;
        if is_served {
            late.write_all(b"hello").unwrap();
            assert_eq!(read(&mut late, 5), b"hello");
        }
        is_served
    });
}

/// As a user without other processes, if there is a way: root may have more than limits allow.
fn start_as_a_user(first_user: u32, limit: &str, arguments: &[&str]) -> Option<Binary> {
    if !rustix::process::getuid().is_root() {
        testkit::skipped("only root can become a user who has used up nothing yet");
        return None;
    }
    let user = first_user.saturating_add(std::process::id() % 5_000);
    // The user must be able to reach the binary.
    let copy = std::env::temp_dir().join(format!("socks6-gateway-{user}"));
    fs::copy(BINARY, &copy).unwrap();
    let become_user = format!("setpriv --reuid={user} --regid={user} --clear-groups");
    let script = format!("exec prlimit {limit} {become_user} \"$@\"");
    let gateway = Binary::start_by(&script, copy.to_str().unwrap(), arguments);
    fs::remove_file(&copy).unwrap();
    Some(gateway)
}

/// RLIMIT_NOFILE: 24 pairs of descriptors and 16 to spare. A pipe that a busy relay has taken goes to a client that waits.
#[test]
fn out_of_descriptors_clients_wait_and_relays_go_on() {
    let script = "ulimit -n 64 && exec \"$@\"";
    let gateway = Binary::start_by(script, BINARY, &["--max-relays", "1000"]);
    let running = Running::through(&gateway);
    running.goes_on();
    let mut clients = crowd(&gateway, 40);
    gateway.wait_for_log("out of descriptors");
    running.goes_on();
    let mut served = 0;
    for client in &mut clients {
        if has_reply(client) {
            assert_eq!(read_reply(client), 0x00, "accepted, and then refused");
            client.write_all(b"hello").unwrap();
            assert_eq!(read(client, 5), b"hello");
            served += 1;
        }
    }
    assert_eq!(served, 23);
    running.goes_on();
    let log = gateway.log();
    // Not a line for each client: once more at most for each of the two pipes that came free.
    assert!(log.matches("out of descriptors").count() <= 3, "{log}");
    drop(clients);
    serves_as_before(&gateway);
    running.ends();
}

/// pthread_create(3): EAGAIN, here by RLIMIT_NPROC, which does not bind root.
#[test]
fn out_of_threads_clients_wait_and_relays_go_on() {
    let Some(gateway) = start_as_a_user(60_000, "--nproc=12", &[]) else {
        return;
    };
    let running = Running::through(&gateway);
    let clients = crowd(&gateway, 40);
    gateway.wait_for_log("no thread for the next client");
    running.goes_on();
    drop(clients);
    serves_as_before(&gateway);
    running.ends();
}

/// Nobody has to wait for the handshake's time to be over.
#[test]
fn out_of_threads_or_descriptors_who_says_nothing_gives_way() {
    let long = ["--handshake-timeout", "1m"];
    let by_descriptors = Binary::start_by(
        "ulimit -n 40 && exec \"$@\"",
        BINARY,
        &[&long[..], &["--max-relays", "1000"]].concat(),
    );
    let by_threads = start_as_a_user(65_000, "--nproc=12", &long);
    for gateway in [Some(by_descriptors), by_threads].into_iter().flatten() {
        let running = Running::through(&gateway);
        let silent: Vec<_> = (0..60).map(|_| connect(gateway.address())).collect();
        serves_as_before(&gateway);
        gateway.wait_for_log(" end=gave-way");
        drop(silent);
        running.ends();
    }
}

/// malloc(3): ENOMEM, here by RLIMIT_AS. A program whose malloc fails ends, and all of its relays with it.
#[test]
fn out_of_memory_clients_wait_and_relays_go_on() {
    for left in [0, 1_000_000, 12_000_000] {
        let mut gateway = Binary::start(&[]);
        let running = Running::through(&gateway);
        let pages = fs::read_to_string(format!("/proc/{}/statm", gateway.id())).unwrap();
        let pages: u64 = pages.split_whitespace().next().unwrap().parse().unwrap();
        let most = Some(pages * 4096 + left);
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        let process = Pid::from_raw(gateway.id().cast_signed());
        prlimit(process, Resource::As, limit).unwrap();

        let mut clients = crowd(&gateway, 80);
        until("clients wait", || {
            let log = gateway.log();
            log.contains("clients wait") || log.contains("no thread for the next client")
        });
        running.goes_on();
        for client in &mut clients {
            if has_reply(client) && read_reply(client) == 0x00 {
                client.write_all(&pattern(100_000, 1)).unwrap();
                assert!(read(client, 100_000) == pattern(100_000, 1));
            }
        }
        assert!(!has_reply(clients.last_mut().unwrap()), "all were served");
        running.goes_on();
        drop(clients);
        serves_as_before(&gateway);
        running.ends();
        assert!(gateway.is_running());
    }
}

/// pipe(7): an unprivileged user has 64 MiB of pipes (/proc/sys/fs/pipe-user-pages-soft). Bulk goes by recv and send then.
#[test]
fn out_of_pipes_relays_go_on_without() {
    let Some(gateway) = start_as_a_user(50_000, "--core=0", &[]) else {
        return;
    };
    // A destination that reads nothing leaves its relay with a pipe that is not empty.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.set_recv_buffer_size(4096).unwrap();
    silent
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    silent.listen(1024).unwrap();
    let to = silent.local_addr().unwrap().as_socket().unwrap();
    let octets = vec![0; 64 << 10];
    let clients: Vec<TcpStream> = (0..90)
        .map(|_| {
            let mut client = relay(&gateway, to);
            client
                .set_write_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            loop {
                match client.write(&octets) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return client,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .collect();
    let pipes = fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    let pipes = pipes
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count();
    let with_pipes = pipes / 2;
    assert!(
        (10..clients.len()).contains(&with_pipes),
        "{with_pipes} of {} relays",
        clients.len()
    );
    // With none left by another one in the pool, either.
    let running = Running::through(&gateway);
    running.goes_on();
    serves_as_before(&gateway);
    drop((clients, silent));
    running.ends();
}
