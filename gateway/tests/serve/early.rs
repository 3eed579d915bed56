//! Octets that a client sends before it has its reply.

use std::io::Write;
use std::net::Shutdown;

use crate::harness::{
    Running, assert_end, echo, nobody, pattern, read, read_reply, request, request_by_name,
};

#[test]
fn octets_behind_the_request_reach_the_destination() {
    let gateway = Running::new();
    let to = echo();
    // 5: within the handshake's read; 3000 and 1 MiB: partly beyond it.
    for len_octets in [5, 3000, 1 << 20] {
        let early = pattern(len_octets, 1);
        let mut client = gateway.connect();
        let mut sender = client.try_clone().unwrap();
        let octets = [request(to), early.clone()].concat();
        let sending = std::thread::spawn(move || sender.write_all(&octets));
        assert_eq!(read_reply(&mut client), 0x00);
        assert!(
            read(&mut client, len_octets) == early,
            "{len_octets} octets"
        );
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn a_client_may_send_everything_and_its_end_before_the_reply() {
    let gateway = Running::new();
    let mut client = gateway.connect();
    client
        .write_all(&[request(echo()), b"all there is".to_vec()].concat())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    assert_eq!(read(&mut client, 12), b"all there is");
    assert_end(&mut client);
}

/// RFC 1928 §6: the reply comes first, then the connection is closed; octets that the gateway has
/// not read must not make its kernel reset the connection and the reply with it.
#[test]
fn a_failure_reply_survives_what_the_client_sent_behind_its_request() {
    let gateway = Running::new();
    let refused = request(nobody());
    let denied = request_by_name("169.254.169.254", 80);
    for (octets, rep) in [(refused, 0x05), (denied, 0x02)] {
        let mut client = gateway.connect();
        client
            .write_all(&[octets, vec![0; 200_000]].concat())
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(read_reply(&mut client), rep);
        assert_end(&mut client);
    }
}
