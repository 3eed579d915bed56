//! Streams through the gateway: whole, in both directions, and ending as they would directly.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::{
    Running, assert_end, assert_reset, destination, echo, patient, pattern, read, resets_on_close,
    until,
};

const MIB: usize = 1 << 20;

/// Both ends of one relay: the client's, and the destination's.
fn ends(gateway: &Running) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = gateway.relay_to(listener.local_addr().unwrap());
    (client, patient(listener.accept().unwrap().0))
}

fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

/// tcp(7), shutdown(2): the end of one direction leaves the other one as it was.
fn half_close(first: TcpStream, second: TcpStream) {
    let (there, back) = (pattern(4 * MIB, 2), pattern(4 * MIB, 3));
    let reader = thread::spawn({
        let second = second.try_clone().unwrap();
        move || read_to_end(second)
    });
    (&first).write_all(&there).unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    assert!(reader.join().unwrap() == there, "there");

    let writer = thread::spawn({
        let back = back.clone();
        move || (&second).write_all(&back).unwrap()
    });
    assert!(read_to_end(first) == back, "back");
    writer.join().unwrap();
}

#[test]
fn the_client_ends_its_stream_and_still_gets_all_of_the_destinations() {
    let gateway = Running::new();
    for _ in 0..4 {
        let (client, destination) = ends(&gateway);
        half_close(client, destination);
    }
}

#[test]
fn the_destination_ends_its_stream_and_still_gets_all_of_the_clients() {
    let gateway = Running::new();
    for _ in 0..4 {
        let (client, destination) = ends(&gateway);
        half_close(destination, client);
    }
}

/// tcp(7): splice(2) stops before an urgent octet, and takes the end behind it for one right there.
fn urgent(first: &TcpStream, second: TcpStream) {
    let (before, behind) = (pattern(8 * MIB, 4), pattern(3 * MIB, 5));
    let reader = thread::spawn(move || read_to_end(second));
    let mut first = first;
    first.write_all(&before).unwrap();
    assert_eq!(SockRef::from(first).send_out_of_band(b"!").unwrap(), 1);
    first.write_all(&behind).unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let received = reader.join().unwrap();
    // The mark is lost, the octet is not (docs/deviations.md).
    assert!(received == [&before[..], b"!", &behind].concat());
}

#[test]
fn what_is_behind_an_urgent_octet_arrives() {
    let gateway = Running::new();
    let (client, destination) = ends(&gateway);
    urgent(&client, destination.try_clone().unwrap());
    urgent(&destination, client);
}

/// Both directions full at once: a splice that waited for one reader would never come to the other.
#[test]
fn an_echo_of_64_mib_survives_a_client_that_reads_late() {
    let gateway = Running::new();
    let sent = pattern(64 * MIB, 4);
    let mut client = gateway.relay_to(echo());
    let writer = thread::spawn({
        let (client, sent) = (client.try_clone().unwrap(), sent.clone());
        move || {
            (&client).write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
    });
    thread::sleep(Duration::from_millis(500));
    assert!(read(&mut client, sent.len()) == sent);
    assert_end(&mut client);
    writer.join().unwrap();
}

#[test]
fn a_stream_changes_between_small_and_large_and_stays_whole() {
    let gateway = Running::new();
    let mut client = gateway.relay_to(echo());
    for (round, len_octets) in [1, 3 * MIB, 10, 300_000, 1, 3 * MIB]
        .into_iter()
        .enumerate()
    {
        let sent = pattern(len_octets, round as u64);
        let writer = thread::spawn({
            let (mut client, sent) = (client.try_clone().unwrap(), sent.clone());
            move || client.write_all(&sent).unwrap()
        });
        assert!(read(&mut client, len_octets) == sent, "round {round}");
        writer.join().unwrap();
        // Now and then long enough for buffer and pipe to have gone back.
        thread::sleep(Duration::from_millis(if round % 2 == 1 { 250 } else { 0 }));
    }
}

#[test]
fn a_reset_of_one_side_is_a_reset_for_the_other() {
    let gateway = Running::new();
    for traffic in [0, 5, 2 * MIB] {
        for client_resets in [true, false] {
            let (client, destination) = ends(&gateway);
            let (mut dying, mut other) = if client_resets {
                (client, destination)
            } else {
                (destination, client)
            };
            let octets = pattern(traffic, 5);
            let writer = thread::spawn({
                let (mut dying, octets) = (dying.try_clone().unwrap(), octets.clone());
                move || dying.write_all(&octets).unwrap()
            });
            assert!(read(&mut other, traffic) == octets);
            writer.join().unwrap();
            other.write_all(b"x").unwrap();
            read(&mut dying, 1);
            resets_on_close(&dying);
            drop(dying);
            assert_reset(&mut other);
        }
    }
}

/// tcp(7): what arrived before the reset can still be read; here it arrived at the gateway.
#[test]
fn what_a_destination_sent_before_its_reset_is_delivered_first() {
    let gateway = Running::new();
    let (mut client, mut destination) = ends(&gateway);
    let octets = pattern(3 * MIB, 6);
    SockRef::from(&client)
        .set_recv_buffer_size(64 << 10)
        .unwrap();
    let writer = thread::spawn({
        let octets = octets.clone();
        move || {
            destination.write_all(&octets).unwrap();
            // Until the kernel has delivered them to the gateway, a reset would take them along.
            thread::sleep(Duration::from_millis(700));
            resets_on_close(&destination);
        }
    });
    let mut received = read(&mut client, MIB);
    thread::sleep(Duration::from_millis(900));
    received.extend(read(&mut client, 2 * MIB));
    assert!(received == octets);
    assert_reset(&mut client);
    writer.join().unwrap();
}

/// A break that shows when the gateway writes: what it reads afterwards looks like an orderly end.
#[test]
fn a_destination_that_resets_an_upload_is_no_end_of_its_answer() {
    let gateway = Running::new();
    let (mut client, mut destination) = ends(&gateway);
    client
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    while client.write(&[0; 100_000]).is_ok() {}
    destination.write_all(b"half of it").unwrap();
    assert_eq!(read(&mut client, 10), b"half of it");
    resets_on_close(&destination);
    drop(destination);
    assert_reset(&mut client);
}

/// Nothing is read from a stream that has ended, and nothing written to it while the other side is
/// silent; that it broke is noticed all the same.
#[test]
fn a_reset_after_the_end_of_a_stream_is_noticed() {
    let gateway = Running::new();
    for client_resets in [true, false] {
        let (client, destination) = ends(&gateway);
        let (dying, mut other) = if client_resets {
            (client, destination)
        } else {
            (destination, client)
        };
        dying.shutdown(Shutdown::Write).unwrap();
        assert_end(&mut other);
        resets_on_close(&dying);
        drop(dying);
        // A reader has had its end; that a reset followed stands in SO_ERROR.
        until("the reset is passed on", || {
            other.take_error().unwrap().is_some()
        });
    }
}

/// An HTTP server that refuses an upload does this: it answers, closes, and its kernel resets.
#[test]
fn a_destinations_last_word_arrives_although_it_does_not_listen_any_more() {
    let gateway = Running::new();
    let to = destination(|mut stream| {
        read(&mut stream, 1000);
        stream.write_all(b"413 too large").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(100));
    });
    let mut client = gateway.relay_to(to);
    let mut uploader = client.try_clone().unwrap();
    let uploading = thread::spawn(move || while uploader.write_all(&[0; 50_000]).is_ok() {});
    assert_eq!(read(&mut client, 13), b"413 too large");
    drop(client);
    uploading.join().unwrap();
}

#[test]
fn a_relay_without_traffic_ends_at_the_idle_limit_by_a_reset() {
    let limit = Duration::from_millis(600);
    let gateway = Running::with(|it| it.idle_timeout = Some(limit));
    let (mut client, mut destination) = ends(&gateway);
    let mut start = Instant::now();
    for _ in 0..3 {
        thread::sleep(limit / 3);
        start = Instant::now();
        client.write_all(b"x").unwrap();
        read(&mut destination, 1);
    }
    assert_reset(&mut client);
    assert!(start.elapsed() >= limit);
    assert_reset(&mut destination);
}

#[test]
fn two_hundred_relays_run_side_by_side() {
    let gateway = Running::new();
    let to = echo();
    let mut clients: Vec<TcpStream> = (0..200).map(|_| gateway.relay_to(to)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client
                .write_all(&pattern(2000, number as u64 * 3 + round))
                .unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert!(read(client, 2000) == pattern(2000, number as u64 * 3 + round));
        }
    }
}
