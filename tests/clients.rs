//! Other people's SOCKS clients at our gateway, which reaches the other family for them.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;

use testkit::{
    Families, Gateway, GatewayOptions, Origin, Outcome, SERVER, Sshd, Topology, Victim, has_tool,
    payload, sha256,
};

/// From IPv4 to IPv6 and the other way round.
const PAIRS: [(Families, Families); 2] =
    [(Families::V4, Families::V6), (Families::V6, Families::V4)];

/// What a client is to be run as.
type Client = fn(&Topology, SocketAddr) -> Vec<OsString>;

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// A file in the topology's folder, as a client's configuration.
fn file(topology: &Topology, name: &str, text: &str) -> String {
    let path = topology.dir().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A gateway for each of the pairs, and a web server that is only reached through it.
fn with_gateways(pairs: &[(Families, Families)], test: impl Fn(&Topology, &Gateway)) {
    for &(from, to) in pairs {
        let Some(topology) = Topology::new(from, to) else {
            return;
        };
        let _dns = topology.dns();
        let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
        test(&topology, &topology.start_gateway());
    }
}

/// Has a client write what `http://SERVER/bytes` is to its standard output.
fn fetches(tool: &str, pairs: &[(Families, Families)], client: Client) {
    if !has_tool(tool) {
        return;
    }
    with_gateways(pairs, |topology, gateway| {
        let argv = client(topology, topology.gateway_socket());
        let outcome = topology.victim(argv).run();
        assert_fetched(&outcome, gateway);
        // By the gateway, and by name: nobody else could have resolved it.
        assert_eq!(gateway.wait_for_relays_to(SERVER, 1).len(), 1, "{outcome}");
    });
}

fn assert_fetched(outcome: &Outcome, gateway: &Gateway) {
    let context = format!("{}\n{}", outcome.stderr, gateway.log());
    assert!(outcome.is_ok(), "{:?}: {context}", outcome.ending);
    let expected = sha256(&payload());
    assert_eq!(sha256(&outcome.stdout_path), expected, "{context}");
}

fn curl(topology: &Topology, scheme: &str, login: &str) -> Vec<OsString> {
    let proxy = format!("{scheme}://{login}{}", topology.gateway_socket());
    let url = format!("http://{SERVER}/bytes");
    words(["/usr/bin/curl", "-sS", "--proxy", &proxy, &url])
}

/// RFC 1928 §4, ATYP X'03', as curl sends it.
#[test]
fn curl_by_socks5() {
    fetches("/usr/bin/curl", &PAIRS, |topology, _| {
        curl(topology, "socks5h", "")
    });
}

#[test]
fn curl_by_socks4a() {
    fetches("/usr/bin/curl", &PAIRS, |topology, _| {
        curl(topology, "socks4a", "")
    });
}

/// RFC 1929: a name and a password, by a client of one way and of another.
#[test]
fn clients_log_in() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    if !has_tool("/usr/lib/python3/dist-packages/socks.py") {
        return;
    }
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let users = file(&topology, "users", "alice:right\n");
    let arguments = vec!["--password-file".to_owned(), users];
    let gateway = Gateway::start(&topology, &GatewayOptions { arguments });
    for (password, is_let_in) in [("right", true), ("wrong", false)] {
        let at = topology.gateway_socket();
        for argv in [
            curl(&topology, "socks5h", &format!("alice:{password}@")),
            pysocks("SOCKS5", at, &format!(", 'alice', '{password}'")),
        ] {
            let outcome = topology.victim(argv).run();
            if is_let_in {
                assert_fetched(&outcome, &gateway);
            } else {
                assert!(!outcome.is_ok(), "{outcome}");
            }
        }
    }
}

/// Python's PySocks, on which requests and many others rely.
fn pysocks(kind: &str, at: SocketAddr, login: &str) -> Vec<OsString> {
    let script = format!(
        "import shutil, socks, sys\n\
         s = socks.create_connection(('{SERVER}', 80), 20, None, socks.{kind}, '{}', {}, True{login})\n\
         s.sendall(b'GET /bytes HTTP/1.0\\r\\n\\r\\n')\n\
         answer = s.makefile('rb')\n\
         while answer.readline().strip(): pass\n\
         shutil.copyfileobj(answer, sys.stdout.buffer)",
        at.ip(),
        at.port()
    );
    words(["/usr/bin/python3", "-c", &script])
}

#[test]
fn pysocks_by_socks5() {
    fetches(
        "/usr/lib/python3/dist-packages/socks.py",
        &PAIRS,
        |_, at| pysocks("SOCKS5", at, ""),
    );
}

#[test]
fn pysocks_by_socks4a() {
    fetches(
        "/usr/lib/python3/dist-packages/socks.py",
        &PAIRS,
        |_, at| pysocks("SOCKS4", at, ""),
    );
}

/// Dante's own client library, preloaded into curl.
#[test]
fn dante_client() {
    // It takes a gateway's IPv6 address for a syntax error.
    fetches("/usr/bin/socksify", &PAIRS[..1], |topology, at| {
        let config = format!(
            "resolveprotocol: fake\n\
             route {{\n from: 0.0.0.0/0 to: 0.0.0.0/0 via: {} port = {}\n proxyprotocol: socks_v5\n command: connect\n}}\n",
            at.ip(),
            at.port()
        );
        let config = format!("SOCKS_CONF={}", file(topology, "dante.conf", &config));
        let url = format!("http://{SERVER}/bytes");
        let program = ["/usr/bin/env", &config, "/usr/bin/socksify"];
        [words(program), words(["/usr/bin/curl", "-sS", &url])].concat()
    });
}

/// proxychains-ng, preloaded into wget.
#[test]
fn proxychains() {
    fetches("/usr/bin/proxychains4", &PAIRS, |topology, at| {
        let config = format!(
            "strict_chain\nproxy_dns\nremote_dns_subnet 224\n[ProxyList]\nsocks5 {} {}\n",
            at.ip(),
            at.port()
        );
        let config = file(topology, "proxychains.conf", &config);
        let url = format!("http://{SERVER}/bytes");
        [
            words(["/usr/bin/proxychains4", "-q", "-f", &config]),
            words(["/usr/bin/wget", "-q", "-O", "-", &url]),
        ]
        .concat()
    });
}

/// A browser.
#[test]
fn chromium() {
    if !has_tool("/usr/bin/chromium") {
        return;
    }
    with_gateways(&PAIRS, |topology, gateway| {
        let proxy = format!("--proxy-server=socks5://{}", topology.gateway_socket());
        let page = format!("http://{SERVER}/");
        let outcome = browser(topology, &proxy, &page).run();
        let context = format!("{outcome}\n{}", gateway.log());
        assert!(outcome.is_ok(), "{context}");
        let gateways = topology.neighbour(["/usr/bin/curl", "-sS", &page]).run();
        assert!(
            gateways.stdout().starts_with("you come from "),
            "{gateways}"
        );
        assert!(
            outcome.stdout().contains(gateways.stdout().trim()),
            "{context}"
        );
    });
}

fn browser<'t>(topology: &'t Topology, proxy: &str, page: &str) -> Victim<'t> {
    let profile = format!("--user-data-dir={}/profile", topology.dir().display());
    topology.victim([
        "/usr/bin/chromium",
        "--headless",
        "--no-sandbox", // it refuses to have one as root
        "--disable-gpu",
        "--disable-background-networking",
        "--dump-dom",
        &profile,
        proxy,
        page,
    ])
}

/// ssh has its SOCKS from a helper, as many have: `nc -X 5`.
#[test]
fn ssh_by_a_proxy_command() {
    if !has_tool("/bin/nc.openbsd") {
        return;
    }
    with_gateways(&PAIRS, |topology, gateway| {
        let sockets = topology.destination_sockets(22);
        let sshd = Sshd::start(topology, &topology.destination, &sockets);
        let at = topology.gateway_socket();
        let proxy = format!("ProxyCommand=/bin/nc.openbsd -X 5 -x {at} %h %p");
        let command = format!("cat {}", payload().display());
        let words = ["-o", &proxy, SERVER, &command].map(str::to_owned);
        let argv = [sshd.client(), words.to_vec()].concat();
        let outcome = topology.victim(argv).run();
        assert_fetched(&outcome, gateway);
    });
}

/// `git clone` by its own means, which are libcurl's.
#[test]
fn git_clones() {
    with_gateways(&PAIRS, |topology, gateway| {
        let proxy = format!("http.proxy=socks5h://{}", topology.gateway_socket());
        let url = format!("http://{SERVER}/git/repository.git");
        let argv = ["/usr/bin/git", "-c", &proxy, "clone", "-q", &url, "clone"];
        let outcome = topology.victim(argv).run();
        assert!(outcome.is_ok(), "{outcome}\n{}", gateway.log());
        let cloned = topology.dir().join("clone/payload");
        assert_eq!(sha256(&cloned), sha256(&payload()), "{}", gateway.log());
    });
}
