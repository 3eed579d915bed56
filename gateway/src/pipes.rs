//! What carries octets from one socket to the other: buffers and pipes, pooled by one gateway.
//! When to use which, and when to give it back, is the relay's decision.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::descriptors::{Descriptors, Pair};
use crate::memory::{give_back, has_room};
use crate::stream::Stream;

/// Size of a buffer. The kernel hands a reader of loopback or GRO traffic at most this much at a
/// time, so that a larger one is seldom filled.
pub(crate) const BUFFER_OCTETS: usize = 64 << 10;

/// What is asked for a pipe, in turn. At 1 MiB splice costs half the CPU of recv/send, at 64 KiB
/// it hardly pays. An unprivileged user has 64 MiB of pipe pages in all, hence the steps down.
const PIPE_OCTETS: [usize; 3] = [1 << 20, 512 << 10, 256 << 10];

/// Below 16 slots of a page a pipe costs more than a buffer does.
const PIPE_LEAST_OCTETS: usize = 64 << 10;

/// As many as are kept for the next relay; those above go back to the system at once.
const SPARE_BUFFERS: usize = 32;
const SPARE_PIPES: usize = 16;

/// Buffers and pipes that no relay needs at the moment. The last one given back is the next one
/// handed out: it is still in the cache.
#[derive(Default)]
pub(crate) struct Pools {
    buffers: Mutex<Vec<Vec<u8>>>,
    pipes: Mutex<Vec<Ends>>,
    /// Memory has gone back to the heap, and not yet to the kernel.
    is_heap_untidy: AtomicBool,
    descriptors: Arc<Descriptors>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    _pair: Pair,
}

impl Pools {
    pub(crate) fn new(descriptors: Arc<Descriptors>) -> Self {
        Self {
            descriptors,
            ..Self::default()
        }
    }

    /// `None` if memory is running out.
    pub(crate) fn buffer(&self) -> Option<Buffer<'_>> {
        let spare = self.buffers.lock().pop();
        let octets = match spare {
            Some(octets) => octets,
            None if !has_room() => return None,
            None => {
                // Not zeroed: an idle moment's buffer would touch 16 pages for a message of a few octets.
                let mut octets = Vec::new();
                octets.try_reserve_exact(BUFFER_OCTETS).ok()?;
                octets
            }
        };
        Some(Buffer {
            pools: self,
            octets,
            sent: 0,
        })
    }

    /// As if `octets` had been received: at most [`BUFFER_OCTETS`], a caller's duty.
    pub(crate) fn preloaded(&self, octets: &[u8]) -> Buffer<'_> {
        debug_assert!(octets.len() <= BUFFER_OCTETS, "a buffer that grows");
        // Without memory for a whole one, one that is as large as it has to be.
        let mut buffer = self.buffer().unwrap_or(Buffer {
            pools: self,
            octets: Vec::new(),
            sent: 0,
        });
        buffer.octets.extend_from_slice(octets);
        buffer
    }

    /// Whether a relay is to do without a pipe, and to give up the one that it has: a client waits for the descriptors.
    pub(crate) fn are_pipes_wanted_back(&self) -> bool {
        self.descriptors.are_wanted()
    }

    /// A pipe of 16 slots or more, or `None` if descriptors or the user's pipe pages have run out.
    pub(crate) fn pipe(&self) -> Option<Pipe<'_>> {
        if self.are_pipes_wanted_back() {
            return None;
        }
        let spare = self.pipes.lock().pop();
        let ends = spare.or_else(|| Ends::new(self.descriptors.for_pipe()?))?;
        Some(Pipe {
            pools: self,
            ends: Some(ends),
            len: 0,
        })
    }

    /// What a client has taken from the heap has gone back there.
    pub(crate) fn has_gone_back(&self) {
        self.is_heap_untidy.store(true, Ordering::Relaxed);
    }

    /// For a quiet moment: after a burst memory goes back to the kernel.
    pub(crate) fn tidy(&self) {
        if self.is_heap_untidy.swap(false, Ordering::Relaxed) {
            give_back();
        }
    }

    /// Gives up what no relay needs: somebody else needs the descriptors or the memory more.
    pub(crate) fn give_up_spare(&self) {
        let pipes = std::mem::take(&mut *self.pipes.lock());
        let buffers = std::mem::take(&mut *self.buffers.lock());
        drop((pipes, buffers));
    }
}

#[cfg(test)]
impl Pools {
    /// How many buffers and pipes wait for a relay.
    pub(crate) fn spare(&self) -> (usize, usize) {
        (self.buffers.lock().len(), self.pipes.lock().len())
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl Ends {
    fn new(pair: Pair) -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        for octets in PIPE_OCTETS {
            if fcntl_setpipe_size(&write, octets).is_ok() {
                break;
            }
        }
        let capacity = fcntl_getpipe_size(&write).ok()?;
        (capacity >= PIPE_LEAST_OCTETS).then_some(Self {
            read,
            write,
            capacity,
            _pair: pair,
        })
    }
}

/// 64 KiB of memory between a recv and a send.
pub(crate) struct Buffer<'p> {
    pools: &'p Pools,
    /// Never more than [`BUFFER_OCTETS`], so that it is never moved.
    octets: Vec<u8>,
    sent: usize,
}

impl Buffer<'_> {
    pub(crate) fn len(&self) -> usize {
        self.octets.len().saturating_sub(self.sent)
    }

    /// One recv of `most` octets into an empty buffer; 0 is the end of the stream.
    pub(crate) fn fill(&mut self, from: Stream<'_>, most: usize) -> Result<usize, Errno> {
        debug_assert_eq!(self.len(), 0, "octets not yet sent");
        self.octets.clear();
        self.sent = 0;
        let room = most.min(self.octets.capacity());
        let (from, tls) = (from.socket(), from.tls());
        if let Some(tls) = tls {
            return tls.read(from, room, &mut self.octets);
        }
        if most < BUFFER_OCTETS {
            self.octets.resize(room, 0);
            let received = recv(from, self.octets.as_mut_slice(), RecvFlags::empty());
            let received = received.map_or_else(Err, |(received, _)| Ok(received));
            self.octets.truncate(received.unwrap_or(0));
            return received;
        }
        let (received, _) = recv(from, spare_capacity(&mut self.octets), RecvFlags::empty())?;
        Ok(received)
    }

    /// One send of all there is.
    pub(crate) fn drain(&mut self, to: Stream<'_>) -> Result<usize, Errno> {
        let waiting = self.octets.get(self.sent..).unwrap_or_default();
        let sent = to.send(waiting)?;
        self.sent = self.sent.saturating_add(sent);
        Ok(sent)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut octets = std::mem::take(&mut self.octets);
        if octets.capacity() < BUFFER_OCTETS {
            return;
        }
        octets.clear();
        let mut spare = self.pools.buffers.lock();
        if spare.len() < SPARE_BUFFERS {
            spare.push(octets);
            return;
        }
        drop((spare, octets));
        self.pools.has_gone_back();
    }
}

/// A pipe between two splices: the octets never come to user space.
pub(crate) struct Pipe<'p> {
    pools: &'p Pools,
    ends: Option<Ends>, // always there until drop
    len: usize,
}

/// Never SPLICE_F_MORE: it holds back the last segment of a message for up to 200 ms.
const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Pipe<'_> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One splice of `most` octets into the pipe, which must be empty: only then does EAGAIN mean that the socket
    /// has nothing, and not that the pipe is full. 0 is the end of the stream.
    pub(crate) fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        debug_assert_eq!(self.len, 0, "octets not yet sent");
        let Some(ends) = &self.ends else { return Ok(0) };
        self.len = splice(
            from,
            None,
            ends.write.as_fd(),
            None,
            ends.capacity.min(most),
            SPLICE,
        )?;
        Ok(self.len)
    }

    /// One splice of all there is.
    pub(crate) fn drain(&mut self, to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let sent = splice(ends.read.as_fd(), None, to, None, self.len, SPLICE)?;
        self.len = self.len.saturating_sub(sent);
        Ok(sent)
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        // With octets of a broken relay in it, a pipe is of no use to another one.
        let Some(ends) = self.ends.take().filter(|_| self.len == 0) else {
            return;
        };
        if self.pools.are_pipes_wanted_back() {
            return;
        }
        let mut spare = self.pools.pipes.lock();
        if spare.len() < SPARE_PIPES {
            spare.push(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pipe_with_octets_left_in_it_is_not_handed_out_again() {
        let pools = Pools::default();
        let (mut outside, inside) = UnixStream::pair().unwrap();
        outside.write_all(b"left over").unwrap();

        let mut pipe = pools.pipe().unwrap();
        assert_eq!(pipe.fill(inside.as_fd(), BUFFER_OCTETS).unwrap(), 9);
        drop(pipe);
        assert_eq!(pools.spare().1, 0);

        drop(pools.pipe());
        assert_eq!(pools.spare().1, 1, "an empty one is kept");
        pools.give_up_spare();
        assert_eq!(pools.spare().1, 0);
    }

    #[test]
    fn a_pipe_is_as_large_as_an_unprivileged_user_may_ask_for() {
        let pair = Arc::<Descriptors>::default().for_pipe().unwrap();
        assert!(Ends::new(pair).unwrap().capacity >= PIPE_LEAST_OCTETS);
    }

    #[test]
    fn preloaded_octets_leave_as_if_they_had_been_received() {
        let pools = Pools::default();
        let (mut outside, inside) = UnixStream::pair().unwrap();

        let mut buffer = pools.preloaded(b"early");
        assert_eq!(buffer.drain(Stream::plain(inside.as_fd())).unwrap(), 5);
        assert_eq!(buffer.len(), 0);

        let mut arrived = [0; 5];
        outside.read_exact(&mut arrived).unwrap();
        assert_eq!(&arrived, b"early");
    }
}
