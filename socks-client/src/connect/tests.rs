use super::*;
use crate::{Rule, Rules};
use fake_dns::Ranges;
use socks_wire::Fqdn;

fn facts(family: Family) -> SocketFacts {
    SocketFacts {
        family,
        kind: Kind::Stream,
        is_v6only: false,
    }
}

fn config() -> Config {
    Config {
        gateways: crate::Gateway::parse_list("192.0.2.1:1080").unwrap(),
        ..Config::default()
    }
}

fn table() -> Table {
    Table::private(&Ranges::default()).unwrap()
}

fn no_names() -> DirectNames {
    DirectNames::new(&Rules::default())
}

fn route(asked: &str) -> Route {
    let asked: SocketAddr = asked.parse().unwrap();
    let family = if asked.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    decide(facts(family), asked, &config(), &table(), &no_names())
}

fn destination_of(relay: &Relay, table: &Table) -> Destination {
    let mut destination = SocketAddr::from(([0; 4], 0)).into();
    assert!(relay.read_destination(table, &mut destination));
    destination
}

/// RFC 3089 §3, steps 4 and 5.
#[test]
fn a_fake_address_of_either_family_leads_to_its_name() {
    let table = table();
    let name = Fqdn::new(b"www.example").unwrap();
    for family in [Family::V4, Family::V6] {
        let fake = table.fake(b"WWW.example.", family).unwrap();
        let route = decide(
            facts(family),
            SocketAddr::new(fake, 80),
            &config(),
            &table,
            &no_names(),
        );
        let Route::Relay(relay) = route else {
            panic!("{route:?}")
        };
        assert_eq!(
            destination_of(&relay, &table),
            Destination {
                address: Address::Fqdn(name),
                port: 80
            }
        );
    }
}

#[test]
fn a_fake_v4_address_may_come_v4_mapped() {
    let table = table();
    let IpAddr::V4(fake) = table.fake(b"a.example", Family::V4).unwrap() else {
        panic!()
    };
    let asked = SocketAddr::new(fake.to_ipv6_mapped().into(), 80);
    assert!(matches!(
        decide(facts(Family::V6), asked, &config(), &table, &no_names()),
        Route::Relay(_)
    ));
    let only = SocketFacts {
        is_v6only: true,
        ..facts(Family::V6)
    };
    assert_eq!(
        decide(only, asked, &config(), &table, &no_names()),
        Route::Direct
    );
}

/// "A fake address without a row is EHOSTUNREACH, never sent as a literal."
#[test]
fn a_fake_address_without_a_row_leads_nowhere() {
    assert_eq!(route("198.18.7.7:80"), Route::Refuse(Errno::NO_ROW));
    assert_eq!(route("[100::77]:80"), Route::Refuse(Errno::NO_ROW));
    assert_eq!(route("198.18.0.0:80"), Route::Refuse(Errno::NO_ROW));
}

#[test]
fn a_literal_that_was_looked_up_travels_as_a_literal() {
    let table = table();
    let fake = table.fake(b"2001:db8::7", Family::V4).unwrap();
    let route = decide(
        facts(Family::V4),
        SocketAddr::new(fake, 22),
        &config(),
        &table,
        &no_names(),
    );
    let Route::Relay(relay) = route else {
        panic!("{route:?}")
    };
    assert_eq!(
        destination_of(&relay, &table).address,
        Address::Ip("2001:db8::7".parse().unwrap())
    );
}

#[test]
fn local_addresses_are_direct_and_everything_else_is_relayed() {
    for asked in [
        "127.0.0.1:80",
        "127.9.9.9:80",
        "169.254.1.1:80",
        "0.0.0.0:80",
        "[::1]:80",
        "[fe80::1]:80",
        "[::]:80",
        "[::ffff:127.0.0.1]:80",
    ] {
        assert_eq!(route(asked), Route::Direct, "{asked}");
    }
    for asked in [
        "192.0.2.5:80",
        "10.0.0.1:80",
        "[2001:db8::5]:80",
        "[fd00::1]:80",
        "[::ffff:192.0.2.5]:80",
        "192.0.2.5:853",
    ] {
        assert!(matches!(route(asked), Route::Relay(_)), "{asked}");
    }
    for asked in ["224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80"] {
        assert_eq!(route(asked), Route::Refuse(Errno::FAIL_CLOSED), "{asked}");
    }
}

#[test]
fn whoever_is_asked_for_names_the_table_answers() {
    for server in [
        "127.0.0.53:53",
        "[::1]:53",
        "192.0.2.1:53",
        "[::ffff:192.0.2.1]:53",
        "[fe80::1]:53",
    ] {
        assert_eq!(route(server), Route::Answer, "{server}");
    }
    let by_name = table();
    let fake = by_name.fake(b"ns.example", Family::V4).unwrap();
    let asked = SocketAddr::new(fake, 53);
    let route = decide(facts(Family::V4), asked, &config(), &by_name, &no_names());
    assert_eq!(route, Route::Answer);
    let refused = Route::Refuse(Errno::FAIL_CLOSED);
    let datagram = SocketFacts {
        kind: Kind::Datagram,
        ..facts(Family::V4)
    };
    let to = |asked: &str| {
        decide(
            datagram,
            asked.parse().unwrap(),
            &config(),
            &table(),
            &no_names(),
        )
    };
    assert_eq!(to("127.0.0.53:53"), Route::Answer);
    assert_eq!(to("127.0.0.1:5353"), Route::Direct);
    assert_eq!(to("192.0.2.1:123"), Route::Hold);
    assert_eq!(to("192.0.2.1:53"), Route::Answer);
    for asked in [
        "224.0.0.1:123",
        "224.0.0.251:5353",
        "224.0.0.1:53",
        "255.255.255.255:53",
    ] {
        assert_eq!(to(asked), refused, "{asked}");
    }
}

#[test]
fn without_a_gateway_nothing_leaves_the_host() {
    let none = Config::default();
    let to = |asked: &str| {
        decide(
            facts(Family::V4),
            asked.parse().unwrap(),
            &none,
            &table(),
            &no_names(),
        )
    };
    assert_eq!(to("192.0.2.5:80"), Route::Refuse(Errno::NO_GATEWAY));
    assert_eq!(to("127.0.0.1:80"), Route::Direct);
}

#[test]
fn a_socket_of_the_other_family_is_the_kernels_business() {
    let asked = "192.0.2.5:80".parse().unwrap();
    assert_eq!(
        decide(facts(Family::V6), asked, &config(), &table(), &no_names()),
        Route::Direct
    );
}

/// udpv6_sendmsg and ip6_datagram_connect take a sockaddr_in.
#[test]
fn a_datagram_socket_of_the_other_family_leaks_nothing() {
    let facts = SocketFacts {
        kind: Kind::Datagram,
        ..facts(Family::V6)
    };
    let asked = "192.0.2.5:53".parse().unwrap();
    assert_eq!(
        decide(facts, asked, &config(), &table(), &no_names()),
        Route::Answer
    );
}

/// The RFC's own example of a range holds 0.0.0.0, which connect(2) takes for loopback.
#[test]
fn the_rfcs_own_range_works() {
    let ranges = Ranges {
        v4: "0.0.0.0/8".parse().unwrap(),
        ..Ranges::default()
    };
    let table = Table::private(&ranges).unwrap();
    let fake = table.fake(b"a.example", Family::V4).unwrap();
    let to = |asked| decide(facts(Family::V4), asked, &config(), &table, &no_names());
    assert!(matches!(to(SocketAddr::new(fake, 80)), Route::Relay(_)));
    assert_eq!(to("0.0.0.0:80".parse().unwrap()), Route::Direct);
}

fn ruled_by(lines: &[&str]) -> Config {
    let mut config = config();
    for line in lines {
        config.rules.push(Rule::parse(line).unwrap());
    }
    config
}

#[test]
fn rules_come_before_the_defaults() {
    let config = ruled_by(&[
        "reject .bad.example",
        "direct 10.0.0.0/8",
        "direct 192.0.2.53 53",
        "relay 127.0.0.0/8 tcp",
        "direct 224.0.0.0/4",
    ]);
    let table = table();
    let bad = table.fake(b"www.bad.example", Family::V4).unwrap();
    let to = |kind, asked: &str| {
        let facts = SocketFacts {
            kind,
            ..facts(Family::V4)
        };
        decide(facts, asked.parse().unwrap(), &config, &table, &no_names())
    };
    let (tcp, udp) = (Kind::Stream, Kind::Datagram);
    assert_eq!(
        to(tcp, &format!("{bad}:80")),
        Route::Refuse(Errno::REJECTED)
    );
    assert_eq!(to(tcp, "10.1.1.1:80"), Route::Direct);
    assert_eq!(to(Kind::Other, "10.1.1.1:0"), Route::Direct);
    assert_eq!(to(udp, "192.0.2.53:53"), Route::Direct);
    assert_eq!(to(udp, "224.0.0.251:5353"), Route::Direct);
    assert_eq!(to(udp, "127.0.0.1:80"), Route::Direct);
    for asked in ["127.0.0.1:80", "0.0.0.0:80"] {
        let Route::Relay(relay) = to(tcp, asked) else {
            panic!("{asked}")
        };
        let loopback = Address::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(destination_of(&relay, &table).address, loopback, "{asked}");
    }
}

/// libc has looked the name up: its address goes by the name's rules. A fake has no address to go to.
#[test]
fn a_name_that_is_ruled_direct_is_reached_by_its_real_address() {
    let config = ruled_by(&["reject .corp.example 25", "direct .corp.example"]);
    let table = table();
    let names = DirectNames::new(&config.rules);
    let slot = table.register(b"host.corp.example").unwrap();
    assert!(names.note("192.0.2.9".parse().unwrap(), slot));
    let to = |asked: SocketAddr| decide(facts(Family::V4), asked, &config, &table, &names);
    assert_eq!(to("192.0.2.9:80".parse().unwrap()), Route::Direct);
    let rejected = Route::Refuse(Errno::REJECTED);
    assert_eq!(to("192.0.2.9:25".parse().unwrap()), rejected);
    assert!(matches!(
        to("192.0.2.8:80".parse().unwrap()),
        Route::Relay(_)
    ));
    let fake = SocketAddr::new(table.pool().address(slot, Family::V4), 80);
    assert_eq!(to(fake), Route::Refuse(Errno::NO_ADDRESS));
    // A name server at its address gets no question.
    assert_eq!(to("192.0.2.9:53".parse().unwrap()), Route::Answer);
}

#[test]
fn a_direct_name_that_is_loopback_changes_nothing_for_loopback() {
    let config = ruled_by(&["direct .corp.example 443", "relay *"]);
    let table = table();
    let names = DirectNames::new(&config.rules);
    let slot = table.register(b"here.corp.example").unwrap();
    assert!(names.note(Ipv4Addr::LOCALHOST.into(), slot));
    let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, 5432));
    let route = decide(facts(Family::V4), asked, &config, &table, &names);
    assert_eq!(route, Route::Direct);
}
