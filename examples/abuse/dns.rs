//! A name server with a zone of every kind: `good.test` and `HEX.v4.test`, `HEX.v6.test` are answered, `dead.test` is not,
//! `rebind.test` has another address each time, and of anything else there is none.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::here::DESTINATION;

const A: u16 = 1;
const AAAA: u16 = 28;

enum Answer {
    Silence,
    NoName,
    /// RDATA of the type that was asked for; possibly none.
    Records(Vec<Vec<u8>>),
}

/// Until it is killed.
pub(crate) fn serve(at: SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    println!("ready");
    let mut rebound = 0;
    let mut octets = [0; 512];
    loop {
        let (received, from) = socket.recv_from(&mut octets).unwrap();
        let question = &octets[..received];
        let Some((labels, kind, end)) = parse(question) else {
            continue;
        };
        let answer = match answer(&labels, kind, &mut rebound) {
            Answer::Silence => continue,
            Answer::NoName => message(&question[..end], 3, kind, &[]),
            Answer::Records(records) => message(&question[..end], 0, kind, &records),
        };
        socket.send_to(&answer, from).ok();
    }
}

/// RFC 1035 §4.1: the labels of the first question, its type, and where it ends.
fn parse(message: &[u8]) -> Option<(Vec<String>, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let len = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + len)?;
        at += 1 + len;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = message.get(at..at + 2)?;
    Some((labels, u16::from_be_bytes([kind[0], kind[1]]), at + 4))
}

fn answer(labels: &[String], kind: u16, rebound: &mut usize) -> Answer {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let records = |of, records| Answer::Records(if kind == of { records } else { Vec::new() });
    let (good, bad) = (
        DESTINATION.octets().to_vec(),
        Ipv4Addr::LOCALHOST.octets().to_vec(),
    );
    match labels[..] {
        [.., "dead", "test"] => Answer::Silence,
        [.., "good", "test"] => records(A, vec![good]),
        ["rebind", "test"] => {
            *rebound += usize::from(kind == A);
            let turns = [vec![good.clone()], vec![bad.clone()], vec![bad, good]];
            records(A, turns[*rebound % turns.len()].clone())
        }
        [hex, "v4", "test"] => records(A, vec![octets(hex)]),
        [hex, "v6", "test"] => records(AAAA, vec![octets(hex)]),
        _ => Answer::NoName,
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn message(question: &[u8], rcode: u8, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&[0x85, 0x80 | rcode]); // QR AA RD, RA
    message[6..12].copy_from_slice(&[0, records.len() as u8, 0, 0, 0, 0]);
    message[4..6].copy_from_slice(&[0, 1]);
    for record in records {
        message.extend([0xc0, 12]); // the name is that of the question
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, record.len() as u8]); // IN, TTL 0
        message.extend(record);
    }
    message
}
