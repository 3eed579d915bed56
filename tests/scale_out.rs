//! DESIGN §4: several gateways that share nothing, behind HAProxy or as a list in the client. One that is killed takes its own
//! relays with it and nobody else's, and is used again once it is back.

use std::time::Duration;

use testkit::{Fleet, Origin, RunningVictim, Service, until};

/// How long a new connection may take, whichever gateway dies meanwhile.
const AT_MOST: f32 = 2.0;

/// A gateway that is back is asked again after 30 seconds by the shim, after two health checks by the balancer.
const BACK: Duration = Duration::from_secs(45);

/// Holds relays and makes new ones, in pairs: one that blocks in connect() and one that does not. Says through whom they go and
/// how long they took, and of those that it holds, which are lost and how.
const PYTHON: &str = "import socket as s, time\n\
    def relay(timeout):\n \
        before = time.monotonic()\n \
        c = s.create_connection(('server.example', 7), timeout)\n \
        took = time.monotonic() - before\n \
        c.settimeout(5)\n \
        return c, c.makefile('r').readline().strip(), took\n\
    held = [relay(t) for t in [None, 9] * 6]\n\
    for c, who, took in held: print('held', who, took, flush=True)\n\
    while True:\n \
        for t in None, 9:\n  \
            c, who, took = relay(t)\n  \
            c.close()\n  \
            print('new', who, took, flush=True)\n \
        for lost in list(held):\n  \
            c, who, _ = lost\n  \
            try:\n   \
                c.sendall(b'x')\n   \
                how = 'end' if not c.recv(1) else ''\n  \
            except OSError as e:\n   \
                how = type(e).__name__\n  \
            if how:\n   \
                print('lost', who, how, flush=True)\n   \
                held.remove(lost)\n \
        time.sleep(0.02)\n";

/// What the program has said of one kind, as (through whom, the rest).
fn said(run: &RunningVictim, kind: &str) -> Vec<(String, String)> {
    let stdout = run.stdout();
    let lines = stdout.lines().filter_map(|line| {
        let mut words = line.split(' ');
        (words.next()? == kind).then_some(())?;
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    lines.collect()
}

fn wait_for_new(run: &RunningVictim, more: usize) {
    let before = said(run, "new").len();
    until(Duration::from_secs(20), "new connections", || {
        (said(run, "new").len() >= before + more).then_some(())
    });
}

/// `is_spread` judges how many relays each gateway has before. Gives how those of the killed one were lost.
fn one_is_killed_and_comes_back(
    fleet: &Fleet,
    gateways: &str,
    is_spread: impl Fn([usize; 3]) -> bool,
) -> Vec<String> {
    let to = [fleet.destination_socket(7)];
    let _origin = Origin::greeter(&fleet.destination, &to);
    let mut running: Vec<Service> = (0..3).map(|number| fleet.start_gateway(number)).collect();
    let _haproxy = (gateways == Fleet::BALANCER).then(|| fleet.start_haproxy().unwrap());
    let shim = fleet.shim(gateways);
    let victim = fleet.victim(["/usr/bin/python3", "-c", PYTHON]).shim(&shim);
    let run = victim.limit(Duration::from_secs(120)).start();
    wait_for_new(&run, 20);
    let through = |kind: &str, number| {
        let who = fleet.gateway_address(number).to_string();
        let lines = said(&run, kind).into_iter();
        lines.filter(|line| line.0 == who).count()
    };
    let spread = [0, 1, 2].map(|number| through("held", number));
    assert_eq!(spread.iter().sum::<usize>(), 12);
    assert!(is_spread(spread), "{spread:?}");

    running[0].kill();
    until(Duration::from_secs(5), "its relays are lost", || {
        (through("lost", 0) == spread[0]).then_some(())
    });
    let before = through("new", 0);
    wait_for_new(&run, 100);
    assert_eq!(through("new", 0), before, "a dead gateway serves");
    running[0] = fleet.start_gateway(0);
    until(BACK, "it is used again", || {
        (through("new", 0) > before).then_some(())
    });
    wait_for_new(&run, 20);

    let lost = said(&run, "lost");
    assert_eq!(lost.len(), spread[0], "{lost:?}");
    let new = said(&run, "new");
    let longest = new.iter().map(|(_, took)| took.parse::<f32>().unwrap());
    let longest = longest.fold(0.0, f32::max);
    assert!(longest < AT_MOST, "a new connection took {longest} s");
    drop(run);
    lost.into_iter().map(|(_, how)| how).collect()
}

#[test]
fn as_a_list_in_the_client() {
    let Some(fleet) = Fleet::new() else {
        return;
    };
    let lost = one_is_killed_and_comes_back(&fleet, Fleet::LIST, |it| it == [12, 0, 0]);
    assert!(
        lost.iter().all(|how| how == "ConnectionResetError"),
        "{lost:?}"
    );
}

/// deploy/haproxy.cfg. HAProxy passes no reset on: to the client a relay that is cut looks like one that is over.
#[test]
fn behind_haproxy() {
    let Some(fleet) = Fleet::new() else {
        return;
    };
    if !testkit::has_tool("/usr/sbin/haproxy") {
        return;
    }
    let lost = one_is_killed_and_comes_back(&fleet, Fleet::BALANCER, |it| !it.contains(&0));
    assert!(lost.iter().all(|how| how == "end"), "{lost:?}");
}
