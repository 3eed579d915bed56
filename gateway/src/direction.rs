//! One direction of a relay: reads from one stream, writes to the other, never waits.
//! When to call it, and what a break means for the other direction, is the relay's business.

use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::pipes::{BUFFER_OCTETS, Buffer, Pipe, Pools};
use crate::stream::Stream;

/// So many full buffers make bulk.
const BULK_BUFFERS: u32 = 2;

/// One call moves about this much at most, so that the other direction has its turn.
const TURN_OCTETS: usize = 4 << 20;

/// After a splice of less than this the socket is most likely empty: poll is asked before it.
const PLENTY_OCTETS: usize = 256 << 10;

/// A relay that has nothing to carry octets in looks again after so long; it delays itself alone.
pub(crate) const WITHOUT_MEMORY: Duration = Duration::from_millis(10);

/// The stream that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broke {
    Source(Errno),
    Sink(Errno),
}

pub(crate) struct Direction<'a> {
    from: Stream<'a>,
    to: Stream<'a>,
    pools: &'a Pools,
    carrier: Carrier<'a>,
    wants: Wants,
    full_buffers: u32,
    is_source_broken: bool,
    is_paused: bool,
    octets: u64,
    last: Instant,
}

enum Carrier<'a> {
    Nothing,
    Buffer(Buffer<'a>),
    Pipe(Pipe<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Read,
    Write,
    /// To pass the end on.
    Shut,
    Nothing,
}

impl<'a> Direction<'a> {
    pub(crate) fn new(from: Stream<'a>, to: Stream<'a>, pools: &'a Pools, now: Instant) -> Self {
        Self {
            from,
            to,
            pools,
            carrier: Carrier::Nothing,
            wants: Wants::Read,
            full_buffers: 0,
            is_source_broken: false,
            is_paused: false,
            octets: 0,
            last: now,
        }
    }

    pub(crate) fn from(&self) -> Stream<'a> {
        self.from
    }

    /// Octets delivered so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// When the last octet moved.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    pub(crate) fn is_over(&self) -> bool {
        self.wants == Wants::Nothing
    }

    /// Until this is said again, nothing is read; what has been read is delivered.
    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// What to poll the source for.
    pub(crate) fn reads(&self) -> PollFlags {
        if self.wants == Wants::Read && !self.is_paused {
            PollFlags::IN
        } else {
            PollFlags::empty()
        }
    }

    /// What to poll the sink for.
    pub(crate) fn writes(&self) -> PollFlags {
        match self.wants {
            Wants::Write | Wants::Shut => PollFlags::OUT,
            Wants::Read | Wants::Nothing => PollFlags::empty(),
        }
    }

    /// Whether [`pump`](Self::pump) has something to do, by what poll said of the two sockets.
    pub(crate) fn is_due(&self, source: PollFlags, sink: PollFlags) -> bool {
        let dead = PollFlags::ERR | PollFlags::HUP;
        match self.wants {
            Wants::Read => !self.is_paused && source.intersects(PollFlags::IN | dead),
            Wants::Write | Wants::Shut => sink.intersects(PollFlags::OUT | dead),
            Wants::Nothing => false,
        }
    }

    /// Puts octets in front of what the source will send; at most a buffer full.
    pub(crate) fn preload(&mut self, octets: &[u8]) {
        self.carrier = Carrier::Buffer(self.pools.preloaded(octets));
    }

    /// Moves octets until one of the sockets has nothing to give or take, the source ends (which is
    /// passed on), or it is the other direction's turn, which it is after `most` octets at the latest.
    pub(crate) fn pump(&mut self, now: Instant, most: Option<usize>) -> Result<(), Broke> {
        if self.wants == Wants::Shut {
            return self.shut();
        }
        let most = most.unwrap_or(TURN_OCTETS).min(TURN_OCTETS);
        let mut turn_octets = 0_usize;
        loop {
            let is_readable = turn_octets == 0; // poll says so
            let left = most.saturating_sub(turn_octets);
            if self.carrier.is_empty() && !self.fill(is_readable, left)? {
                return Ok(());
            }
            let sent = match self.drain()? {
                0 => return Ok(()),
                sent => sent,
            };
            self.last = now;
            self.octets = self
                .octets
                .saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
            turn_octets = turn_octets.saturating_add(sent);
            if !self.carrier.is_empty() {
                self.wants = Wants::Write; // the sink took a part: it is full
                return Ok(());
            }
            self.wants = Wants::Read;
            if sent < self.carrier.plenty() || turn_octets >= most {
                return Ok(());
            }
        }
    }

    /// Reads `most` octets into the empty carrier; false if there is nothing to send on.
    fn fill(&mut self, is_readable: bool, most: usize) -> Result<bool, Broke> {
        if !self.choose_carrier() {
            thread::sleep(WITHOUT_MEMORY);
            return Ok(false);
        }
        let filled = loop {
            let filled = self.carrier.fill(self.from, most);
            match filled {
                Err(Errno::INTR) => {}
                // splice(2) stops before an urgent octet, and calls that an end behind a FIN; recv(2) takes it.
                Ok(0) | Err(Errno::AGAIN)
                    if self.carrier.is_pipe() && (is_readable || filled == Ok(0)) =>
                {
                    if !self.take_buffer() {
                        return Ok(false);
                    }
                }
                filled => break filled,
            }
        };
        match filled {
            Ok(0) => {
                self.abandon();
                // Behind a break, a reset follows in place of the orderly end.
                if !self.is_source_broken {
                    self.shut()?;
                }
                Ok(false)
            }
            Ok(octets) => {
                if octets == BUFFER_OCTETS {
                    self.full_buffers = self.full_buffers.saturating_add(1);
                }
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                self.wants = Wants::Read;
                Ok(false)
            }
            Err(errno) => {
                self.abandon();
                Err(Broke::Source(errno))
            }
        }
    }

    /// Passes the end of the stream on, which may have to wait for the sink as octets do.
    fn shut(&mut self) -> Result<(), Broke> {
        match self.to.shut() {
            Ok(()) => self.wants = Wants::Nothing,
            Err(Errno::AGAIN) => self.wants = Wants::Shut,
            Err(errno) => {
                self.abandon();
                return Err(Broke::Sink(errno));
            }
        }
        Ok(())
    }

    /// Writes from the carrier; 0 if the sink takes nothing.
    fn drain(&mut self) -> Result<usize, Broke> {
        loop {
            match self.carrier.drain(self.to) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wants = Wants::Write;
                    return Ok(0);
                }
                Err(errno) => {
                    self.abandon();
                    return Err(Broke::Sink(errno));
                }
            }
        }
    }

    /// A buffer at first; a pipe once the direction is bulk, if there is one to be had. One is as good as the other where
    /// memory has run out; false if there is neither.
    fn choose_carrier(&mut self) -> bool {
        if self.carrier.is_pipe() && self.pools.are_pipes_wanted_back() {
            self.carrier = Carrier::Nothing;
            self.full_buffers = 0;
        }
        let is_plain = self.from.tls().is_none() && self.to.tls().is_none();
        if is_plain && self.full_buffers >= BULK_BUFFERS && !self.carrier.is_pipe() {
            match self.pools.pipe() {
                Some(pipe) => self.carrier = Carrier::Pipe(pipe),
                None => self.full_buffers = 0, // asked again after as many more
            }
        }
        if matches!(self.carrier, Carrier::Nothing) {
            let buffer = self.pools.buffer().map(Carrier::Buffer);
            let pipe = || self.pools.pipe().filter(|_| is_plain).map(Carrier::Pipe);
            self.carrier = buffer.or_else(pipe).unwrap_or(Carrier::Nothing);
        }
        !matches!(self.carrier, Carrier::Nothing)
    }

    /// A buffer in place of an empty pipe; false if there is none, after a pause.
    fn take_buffer(&mut self) -> bool {
        let Some(buffer) = self.pools.buffer() else {
            thread::sleep(WITHOUT_MEMORY);
            return false;
        };
        self.carrier = Carrier::Buffer(buffer);
        self.full_buffers = 0;
        true
    }

    /// Gives the carrier back if it is empty and nothing has moved for `quiet`.
    pub(crate) fn release_if_quiet(&mut self, now: Instant, quiet: Duration) {
        if now.saturating_duration_since(self.last) >= quiet && self.carrier.is_empty() {
            self.carrier = Carrier::Nothing;
            self.full_buffers = 0;
        }
    }

    /// This direction is over. What it holds is lost, but at an orderly end it holds nothing.
    pub(crate) fn abandon(&mut self) {
        self.wants = Wants::Nothing;
        self.carrier = Carrier::Nothing;
    }

    /// From now on the end of the source is not the orderly end of a stream.
    pub(crate) fn source_is_broken(&mut self) {
        self.is_source_broken = true;
    }
}

impl Carrier<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Buffer(buffer) => buffer.len() == 0,
            Self::Pipe(pipe) => pipe.len() == 0,
        }
    }

    fn is_pipe(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    fn fill(&mut self, from: Stream<'_>, most: usize) -> Result<usize, Errno> {
        match self {
            Self::Nothing => Err(Errno::AGAIN),
            Self::Buffer(buffer) => buffer.fill(from, most),
            Self::Pipe(pipe) => pipe.fill(from.socket(), most),
        }
    }

    fn drain(&mut self, to: Stream<'_>) -> Result<usize, Errno> {
        match self {
            Self::Nothing => Ok(0),
            Self::Buffer(buffer) => buffer.drain(to),
            Self::Pipe(pipe) => pipe.drain(to.socket()),
        }
    }

    /// After less than this the source is most likely empty.
    fn plenty(&self) -> usize {
        match self {
            Self::Nothing | Self::Buffer(_) => BUFFER_OCTETS,
            Self::Pipe(_) => PLENTY_OCTETS,
        }
    }
}
