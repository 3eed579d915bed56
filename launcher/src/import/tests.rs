use super::*;

fn imported(text: &str) -> String {
    draft(text).unwrap().text()
}

/// What is left without the comments.
fn settings(text: &str) -> String {
    let imported = imported(text);
    let lines = imported.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

fn refused(text: &str) -> String {
    let (line, what) = draft(text).unwrap_err();
    format!("{}: {what}", line.unwrap_or_default())
}

#[test]
fn a_proxychains_file_becomes_ours() {
    let text = "\
# a comment
random_chain
chain_len = 1
quiet_mode
proxy_dns
remote_dns_subnet 010
tcp_read_time_out 15000
localnet 192.168.1.0:80/255.255.255.0
localnet 172.16.0.0/12
localnet ::1/128
localnet 127.0.0.0:80/255.0.0.0
localnet [2001:db8::]:443/32

[ProxyList]
# another one
socks5\t192.0.2.1 1080 al@ice pa#ss
socks5 2001:db8::1 1081
";
    assert_eq!(
        settings(text),
        "\
gateway = [\"socks5://al%40ice:pa%23ss@192.0.2.1:1080\", \"[2001:db8::1]:1081\"]
range-v4 = \"10.0.0.0/8\"
rules = [
\"direct 192.168.1.0/24 80\",
\"direct 172.16.0.0/12\",
\"direct ::1/128\",
\"direct 127.0.0.0/8 80\",
\"direct 2001:db8::/32 443\",
\"relay 127.0.0.0/8 tcp\",
\"relay 169.254.0.0/16 tcp\",
\"relay fe80::/10 tcp\",
]"
    );
    let remarks = imported(text);
    for line in ["# random_chain: ", "# tcp_read_time_out 15000: "] {
        assert!(remarks.contains(line), "{remarks}");
    }
}

#[test]
fn a_torsocks_file_becomes_ours() {
    assert_eq!(
        settings("# all defaults\n"),
        "gateway = \"127.0.0.1:9050\"\nrules = [\n\"reject 127.0.0.0/8\",\n\"reject ::1\",\n]"
    );
    let text = "\
TorAddress ::1          # ours
TorPort 9150
OnionAddrRange 127.42.42.0/24
SOCKS5Username alice
SOCKS5Password se\"cret
AllowInbound 1
AllowOutboundLocalhost 2
";
    assert_eq!(
        settings(text),
        "gateway = \"[::1]:9150\"\nuser = \"alice\"\npassword = 'se\"cret'"
    );
    assert!(imported(text).starts_with("# OnionAddrRange 127.42.42.0/24: "));
    let udp = settings("AllowOutboundLocalhost 1\n");
    assert!(udp.contains("\"reject 127.0.0.0/8 udp\""), "{udp}");
}

/// Nothing goes elsewhere than it went before, and nobody sees more of it.
#[test]
fn what_has_no_like_here_is_refused_with_its_line() {
    let chain = "socks5 192.0.2.1 1080\nsocks5 192.0.2.2 1080\n";
    for (text, message) in [
        (
            format!("strict_chain\n[ProxyList]\n{chain}"),
            "1: a chain of proxies",
        ),
        (format!("[ProxyList]\n{chain}"), "0: a chain of proxies"),
        (
            format!("random_chain\nchain_len = 2\n[ProxyList]\n{chain}"),
            "1: a chain of proxies",
        ),
        (
            "[ProxyList]\nsocks4 127.0.0.1 9050".to_owned(),
            "2: socks4 is not spoken",
        ),
        (
            "[ProxyList]\nhttp 192.0.2.1 8080".to_owned(),
            "2: an http proxy",
        ),
        (
            "[ProxyList]\nsocks5 gw.example 1080".to_owned(),
            "2: `gw.example 1080`",
        ),
        ("[ProxyList]\n".to_owned(), "0: there is no proxy"),
        (
            "dnat 1.1.1.1 1.1.1.2\n[ProxyList]\n".to_owned(),
            "1: destinations cannot",
        ),
        (
            "remote_dns_subnet 127\n[ProxyList]\n".to_owned(),
            "1: 127.0.0.0/8 cannot",
        ),
        (
            "localnet 10.0.0.0/255.0.255.0\n[ProxyList]\n".to_owned(),
            "1: `10.0.0.0/255.0.255.0`",
        ),
        (
            "strange\n[ProxyList]\n".to_owned(),
            "1: `strange` is not known",
        ),
        ("IsolatePID 1".to_owned(), "1: processes cannot be isolated"),
        ("TorPort x".to_owned(), "1: `x` is not a port"),
        (
            format!("SOCKS5Username a\nSOCKS5Password {}", "x".repeat(256)),
            "2: user and password have",
        ),
        (
            format!("[ProxyList]\nsocks5 192.0.2.1 1080 {} x", "a".repeat(256)),
            "2: user and password have",
        ),
        ("TorPort 0".to_owned(), "1: `0` is not a port"),
        ("\nSOCKS5Username alice".to_owned(), "2: SOCKS5Username and"),
        (
            "gateway = '192.0.2.1'".to_owned(),
            "1: `gateway` is not known",
        ),
        ("AllowInbound 2".to_owned(), "1: 2 is not 0 to 1"),
    ] {
        let said = refused(&text);
        assert!(said.starts_with(message), "{text}: {said}");
    }
}
