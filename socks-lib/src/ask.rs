//! A question to the gateway about a name or an address (RESOLVE and RESOLVE_PTR), on a connection of our own.
//!
//! It goes in turns as connect() does, and the shell waits between them. It belongs to one call alone, so there
//! is no row and no lock to it.

use std::ffi::{c_int, c_short};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use fake_dns::Family;
use socks_client::{Clock, Eai, Gateway, LogLevel};
use socks_wire::{
    Address, ClientHandshake, Cmd, Destination, Fqdn, HandshakeError, Method, Parsed, Progress,
    Rep, Reply,
};

use crate::handshake::{Ended, advance, credentials};
use crate::state::State;
use crate::sys::io::{self, Own};

/// For the whole question, in milliseconds: resolv.conf(5) has two attempts of five seconds.
const LIMIT: u64 = 10_000;
/// Selection, status, and a reply with the longest name.
const HEARD_OCTETS: usize = 2 + 2 + 7 + 255;

/// The gateways (by the bits of their indices) that are known to answer no questions.
#[derive(Debug, Default)]
pub(crate) struct Mute {
    /// They have said so.
    said: AtomicU64,
    /// They hang up on whoever asks: Dante and `ssh -D` have no other word for a command that they do not know.
    hangs_up: AtomicU64,
    /// When one was last seen to do so, in milliseconds; a gateway that is just being replaced hangs up as well.
    seen: AtomicU64,
}

/// How long a gateway that hangs up is not asked again, in milliseconds.
const MUTE_TIME: u64 = 60_000;

impl Mute {
    fn bit(gateway: usize) -> u64 {
        u32::try_from(gateway).map_or(0, |index| 1_u64.checked_shl(index).unwrap_or(0))
    }

    fn is(&self, gateway: usize, now: Clock) -> bool {
        let has = |bits: &AtomicU64| bits.load(Ordering::Relaxed) & Self::bit(gateway) != 0;
        let since = || now.0.saturating_sub(self.seen.load(Ordering::Relaxed));
        has(&self.said) || (has(&self.hangs_up) && since() < MUTE_TIME)
    }

    /// Whether that is news.
    fn has_said(&self, gateway: usize) -> bool {
        Self::set(&self.said, gateway)
    }

    /// Whether that is news.
    fn has_hung_up(&self, gateway: usize, now: Clock) -> bool {
        self.seen.store(now.0, Ordering::Relaxed);
        Self::set(&self.hangs_up, gateway)
    }

    fn set(bits: &AtomicU64, gateway: usize) -> bool {
        let bit = Self::bit(gateway);
        bits.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// One question. Without a destructor: pthread_cancel unwinds over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    cmd: Cmd,
    destination: Destination,
    began: Clock,
    /// The gateway's address that it is at.
    candidate: u8,
    /// Until when that gateway may be silent.
    until: Clock,
    socket: Option<Own>,
    is_connected: bool,
    /// Whether it has been asked before, and has hung up.
    is_second: bool,
    progress: Progress,
    heard: [u8; HEARD_OCTETS],
    heard_octets: usize,
}

/// What the shell does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    /// Calls libc's poll for this, for at most so many milliseconds.
    Wait(Own, c_short, c_int),
    /// Goes on with this.
    Over(Said),
}

/// What the gateway says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    /// There is an address of the name, or a [name](Asking::found) of the address.
    Found,
    /// Nothing: it does not know the question, or may not answer it.
    Nothing,
    /// There is none, or it cannot be known now.
    Fail(Eai),
}

/// Where one step of a question ended.
enum Stepped {
    Wants(c_short),
    Over(Said),
    /// It is the gateway's fault: another one may do better.
    Failed(&'static str),
}

impl Asking {
    /// The address of a name; `None` for what no request can carry.
    pub(crate) fn address_of(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        Some(Self::new(Cmd::RESOLVE, Fqdn::new(name).ok()?.into()))
    }

    /// The name of an address.
    pub(crate) fn name_of(ip: IpAddr) -> Self {
        Self::new(Cmd::RESOLVE_PTR, ip.to_canonical().into())
    }

    fn new(cmd: Cmd, address: Address) -> Self {
        let now = io::now();
        Self {
            cmd,
            destination: Destination { address, port: 0 },
            began: now,
            candidate: 0,
            until: now,
            socket: None,
            is_connected: false,
            is_second: false,
            progress: Progress::default(),
            heard: [0; HEARD_OCTETS],
            heard_octets: 0,
        }
    }

    fn end(&self) -> Clock {
        Clock(self.began.0.saturating_add(LIMIT))
    }

    fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        let room = self.heard.get_mut(self.heard_octets..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(octets) {
            *to = *from;
        }
        self.heard_octets = self.heard_octets.saturating_add(octets.len());
    }

    /// What BND.ADDR has told; `None` for a name that is none.
    pub(crate) fn found(&self) -> Option<Address> {
        match Reply::parse(self.reply()?) {
            Ok(Parsed::Whole { message, .. }) => Some(message.bound.address),
            Ok(Parsed::More(_)) | Err(_) => None,
        }
    }

    /// The octets of the reply, as far as they are here; `None` before it is due.
    fn reply(&self) -> Option<&[u8]> {
        let heard = self.heard.get(..self.heard_octets)?;
        match heard {
            // RFC 1928 §3 and RFC 1929 §2: VER METHOD, and VER STATUS if that method has one.
            [_, method, _, _, reply @ ..] if Method(*method) == Method::USERNAME_PASSWORD => {
                Some(reply)
            }
            [_, method, reply @ ..] if Method(*method) != Method::USERNAME_PASSWORD => Some(reply),
            _ => None,
        }
    }
}

impl State {
    /// The next thing to do for a question.
    pub(crate) fn ask_turn(&self, asking: &mut Asking) -> Turn {
        loop {
            match self.ask_step(asking) {
                Stepped::Wants(events) => {
                    let end = if asking.heard_octets == 0 {
                        asking.until
                    } else {
                        asking.end()
                    };
                    let left = end.0.saturating_sub(io::now().0);
                    if let (Some(socket), 1..) = (asking.socket, left) {
                        return Turn::Wait(socket, events, c_int::try_from(left).unwrap_or(0));
                    }
                    if asking.heard_octets != 0 {
                        // It is there, and waits for a name server itself.
                        return self.asked(asking, Said::Fail(Eai::AGAIN));
                    }
                    self.ask_failed(asking, "the gateway is silent");
                }
                Stepped::Over(said) => return self.asked(asking, said),
                Stepped::Failed(why) => self.ask_failed(asking, why),
            }
        }
    }

    fn ask_step(&self, asking: &mut Asking) -> Stepped {
        let socket = match asking.socket {
            Some(socket) => socket,
            None => match self.ask_next(asking) {
                Ok(socket) => socket,
                Err(stepped) => return stepped,
            },
        };
        let Some(socket) = socket.fd() else {
            return Stepped::Over(Said::Fail(Eai::AGAIN));
        };
        if !asking.is_connected {
            match io::take_error(socket) {
                Err(errno) => return Stepped::Failed(errno.name()),
                Ok(()) if !io::is_connected(socket) => return Stepped::Wants(libc::POLLOUT),
                Ok(()) => asking.is_connected = true,
            }
        }
        let destination = asking.destination;
        let credentials = credentials(self.asked_gateway(asking));
        let mut handshake =
            ClientHandshake::resume(asking.cmd, &destination, credentials, asking.progress);
        match advance(socket, &mut handshake, |octets| asking.hear(octets)) {
            Ended::Wants(events, progress) => {
                asking.progress = progress;
                Stepped::Wants(events)
            }
            Ended::Stands(_) => Stepped::Over(Said::Found),
            Ended::Refused(HandshakeError::Reply(Rep::COMMAND_NOT_SUPPORTED)) => {
                self.muted(asking, Mute::has_said)
            }
            Ended::Refused(HandshakeError::Reply(rep)) => Stepped::Over(match Eai::of_reply(rep) {
                Some(eai) => Said::Fail(eai),
                None => Said::Nothing,
            }),
            Ended::Refused(_) => Stepped::Failed("the gateway would not have us"),
            Ended::Lost(_) if asking.reply().is_some_and(<[u8]>::is_empty) => {
                // Once may be an accident; twice is its way.
                if asking.is_second {
                    let now = io::now();
                    return self.muted(asking, |mute, gateway| mute.has_hung_up(gateway, now));
                }
                asking.close();
                asking.is_second = true;
                match self.ask_at(asking, asking.candidate) {
                    Ok(_) => Stepped::Wants(libc::POLLOUT),
                    Err(stepped) => stepped,
                }
            }
            Ended::Lost(_) => Stepped::Failed("the gateway hung up"),
        }
    }

    /// A connection to the gateway's next address.
    fn ask_next(&self, asking: &mut Asking) -> Result<Own, Stepped> {
        let now = io::now();
        let next = |except| self.candidates.next(Family::V4, asking.began, now, except);
        let again = Stepped::Over(Said::Fail(Eai::AGAIN));
        let Some(index) = next(None) else {
            return Err(again);
        };
        let is_last = next(Some(index)).is_none();
        let left = asking.end().0.saturating_sub(now.0);
        let patience = if is_last { left } else { left / 2 };
        asking.until = Clock(now.0.saturating_add(patience));
        asking.is_second = false;
        self.ask_at(asking, index)
    }

    fn ask_at(&self, asking: &mut Asking, index: u8) -> Result<Own, Stepped> {
        let again = Stepped::Over(Said::Fail(Eai::AGAIN));
        asking.candidate = index;
        let gateway = self.asked_gateway(asking);
        let is_pipelined = gateway.is_some_and(|gateway| gateway.is_pipelined);
        asking.progress = Progress::beginning(is_pipelined);
        (asking.is_connected, asking.heard_octets) = (false, 0);
        let Some(candidate) = self.candidates.get(index) else {
            return Err(again);
        };
        if self.mute.is(candidate.gateway, io::now()) {
            return Err(Stepped::Over(Said::Nothing));
        }
        match Own::stream_towards(candidate.address) {
            Ok(socket) => {
                asking.socket = Some(socket);
                Ok(socket)
            }
            Err(errno) if errno.is_of_gateway() => Err(Stepped::Failed(errno.name())),
            // Out of descriptors, say.
            Err(_) => Err(again),
        }
    }

    fn asked_gateway(&self, asking: &Asking) -> Option<&Gateway> {
        let candidate = self.candidates.get(asking.candidate)?;
        self.config.gateways.get(candidate.gateway)
    }

    fn ask_failed(&self, asking: &mut Asking, why: &str) {
        asking.close();
        self.candidates
            .failed(asking.candidate, asking.began, io::now());
        if let Some(gateway) = self.asked_gateway(asking) {
            self.log(LogLevel::Warn, format_args!("gateway {gateway}: {why}"));
        }
    }

    /// The gateway does not know the question: it is not asked again. `note` tells whether that is news.
    fn muted(&self, asking: &Asking, note: impl FnOnce(&Mute, usize) -> bool) -> Stepped {
        if let (Some(candidate), Some(gateway)) = (
            self.candidates.get(asking.candidate),
            self.asked_gateway(asking),
        ) && note(&self.mute, candidate.gateway)
        {
            let level = LogLevel::Warn;
            self.log(
                level,
                format_args!("gateway {gateway} answers no look-ups: names are not verified"),
            );
        }
        Stepped::Over(Said::Nothing)
    }

    /// The question is over.
    fn asked(&self, asking: &mut Asking, said: Said) -> Turn {
        if asking.heard_octets != 0 {
            self.candidates.works(asking.candidate);
        }
        asking.close();
        if let Said::Fail(eai) = said {
            let took = io::now().0.saturating_sub(asking.began.0);
            let result = eai.name();
            let level = if eai == Eai::AGAIN {
                LogLevel::Warn
            } else {
                LogLevel::Info
            };
            let asked: &dyn Display = match &asking.destination.address {
                Address::Fqdn(name) => name,
                Address::Ip(ip) => ip,
            };
            self.log(
                level,
                format_args!("look-up {asked}: {result} in {took} ms"),
            );
        }
        Turn::Over(said)
    }
}
