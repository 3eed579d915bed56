//! System calls on the application's sockets: raw, so that they re-enter no hook and leave errno alone,
//! and none that waits.

use std::ffi::{c_int, c_short};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use fake_dns::Family;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno as Raw;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::time::ClockId;
use socks_client::{Clock, Errno, Kind, SILENCE_LIMIT};

use crate::sys::file::File;

/// Families that connect by sockaddr_in and are not TCP's or UDP's: AF_SMC and AF_RDS.
const ALSO_IP: [c_int; 2] = [43, libc::AF_RDS];

/// What the kernel says of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The family that the kernel knows it by.
    pub(crate) family: Family,
    pub(crate) kind: Kind,
    pub(crate) cookie: u64,
}

/// Runs `f` on the application's descriptor.
fn with<T>(fd: c_int, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: borrowed for this one system call; a number that is no descriptor gives EBADF. -1, which
    // the type forbids, never gets here: `facts` is asked first and refuses what is not a socket.
    f(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// `None` if it is not a socket that speaks IP: then libc and the kernel know what to say.
///
/// # Errors
/// The kernel, or a sandbox, does not tell.
pub(crate) fn facts(fd: c_int) -> Result<Option<Facts>, Raw> {
    if fd < 0 {
        return Ok(None);
    }
    with(fd, |fd| {
        let family = match sockopt::socket_domain(fd) {
            Ok(AddressFamily::INET) => Family::V4,
            Ok(AddressFamily::INET6) => Family::V6,
            // They take IP addresses too, and carry them where nobody looks.
            Ok(family) if ALSO_IP.contains(&c_int::from(family.as_raw())) => {
                return Err(Raw::OPNOTSUPP);
            }
            Ok(_) | Err(Raw::BADF | Raw::NOTSOCK) => return Ok(None),
            Err(error) => return Err(error),
        };
        let protocol = sockopt::socket_protocol(fd)?;
        let kind = match (sockopt::socket_type(fd)?, protocol) {
            (SocketType::STREAM, None | Some(ipproto::TCP | ipproto::MPTCP)) => Kind::Stream,
            (SocketType::DGRAM, _) => Kind::Datagram,
            _ => Kind::Other,
        };
        Ok(Some(Facts {
            family,
            kind,
            cookie: sockopt::socket_cookie(fd)?,
        }))
    })
}

pub(crate) fn cookie(fd: c_int) -> Option<u64> {
    if fd < 0 {
        None
    } else {
        with(fd, |fd| sockopt::socket_cookie(fd).ok())
    }
}

pub(crate) fn is_stream(fd: c_int) -> bool {
    with(fd, |fd| sockopt::socket_type(fd)) == Ok(SocketType::STREAM)
}

pub(crate) fn is_v6only(fd: c_int) -> bool {
    with(fd, |fd| sockopt::ipv6_v6only(fd).unwrap_or(false))
}

pub(crate) fn clear_v6only(fd: c_int) {
    // On a bound socket even clearing what is clear fails. If it fails, the TCP connect says so.
    if is_v6only(fd) {
        let _kept = with(fd, |fd| sockopt::set_ipv6_v6only(fd, false));
    }
}

pub(crate) fn is_connected(fd: c_int) -> bool {
    with(fd, |fd| matches!(rustix::net::getpeername(fd), Ok(Some(_))))
}

/// Whether what it sends is what it receives.
pub(crate) fn is_looped(fd: c_int) -> bool {
    let end = |end: SocketAddr| (end.ip(), end.port());
    peer(fd).is_some_and(|peer| local(fd).map(end) == Some(end(peer)))
}

/// Whether the program has bound it to an address, or to a port for v6 alone.
pub(crate) fn is_bound_to_v6(fd: c_int) -> bool {
    let local = local(fd).filter(|local| local.port() != 0 && !local.ip().to_canonical().is_ipv4());
    local.is_some_and(|local| !local.ip().is_unspecified() || is_v6only(fd))
}

/// Whether the program has bound an AF_INET6 socket to a v4-mapped address.
pub(crate) fn is_bound_to_v4(fd: c_int) -> bool {
    local(fd).is_some_and(|local| local.is_ipv6() && local.ip().to_canonical().is_ipv4())
}

/// Whether connect() is EISCONN for it, whatever the address.
pub(crate) fn is_listening(fd: c_int) -> bool {
    with(fd, |fd| sockopt::socket_acceptconn(fd).unwrap_or(false))
}

pub(crate) fn is_blocking(fd: c_int) -> bool {
    with(fd, |fd| {
        !rustix::fs::fcntl_getfl(fd)
            .unwrap_or(OFlags::empty())
            .contains(OFlags::NONBLOCK)
    })
}

/// `SO_SNDTIMEO` in milliseconds.
pub(crate) fn send_timeout(fd: c_int) -> Option<u64> {
    let timeout = with(fd, |fd| sockopt::socket_timeout(fd, sockopt::Timeout::Send)).ok()??;
    Some(u64::try_from(timeout.max(Duration::from_millis(1)).as_millis()).unwrap_or(u64::MAX))
}

/// `SO_RCVTIMEO`
pub(crate) fn receive_timeout(fd: c_int) -> Option<Duration> {
    let timeout = with(fd, |fd| sockopt::socket_timeout(fd, sockopt::Timeout::Recv));
    timeout.ok().flatten()
}

/// The shorter of `SO_RCVTIMEO` and `SO_SNDTIMEO`.
pub(crate) fn shorter_timeout(fd: c_int) -> Option<Duration> {
    let send = with(fd, |fd| sockopt::socket_timeout(fd, sockopt::Timeout::Send));
    let both = [receive_timeout(fd), send.ok().flatten()];
    both.into_iter().flatten().min()
}

/// Whether poll(2) says now that one of `events` is there.
pub(crate) fn is_ready(fd: c_int, events: c_short) -> bool {
    let none = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    with(fd, |fd| {
        let events = PollFlags::from_bits_retain(events.cast_unsigned());
        let mut waited = [PollFd::from_borrowed_fd(fd, events)];
        rustix::event::poll(&mut waited, Some(&none)) != Ok(0)
    })
}

/// Has a TCP connect that follows end with ETIMEDOUT after [`SILENCE_LIMIT`], unless the program has set
/// such a limit itself.
pub(crate) fn hurry(fd: c_int) {
    with(fd, |fd| {
        if sockopt::tcp_user_timeout(fd) == Ok(0) {
            let _slower = sockopt::set_tcp_user_timeout(fd, limit());
        }
    });
}

/// Takes that limit off again: no program has one of this many milliseconds.
pub(crate) fn stop_hurrying(fd: c_int) {
    if is_hurried(fd) {
        let _kept = with(fd, |fd| sockopt::set_tcp_user_timeout(fd, 0));
    }
}

pub(crate) fn is_hurried(fd: c_int) -> bool {
    with(fd, |fd| sockopt::tcp_user_timeout(fd)) == Ok(limit())
}

fn limit() -> u32 {
    u32::try_from(SILENCE_LIMIT).unwrap_or(u32::MAX)
}

/// Reads and clears `SO_ERROR`.
pub(crate) fn take_error(fd: c_int) -> Result<(), Errno> {
    match with(fd, |fd| sockopt::socket_error(fd)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(Errno(error.raw_os_error())),
    }
}

/// Makes a connected socket an unconnected one, as it was before connect().
pub(crate) fn dissolve(fd: c_int) {
    disconnect(fd);
    // The kernel leaves ECONNRESET behind (tcp_disconnect); the application did nothing to be reset.
    let _reset = take_error(fd);
}

/// The same, with what the kernel leaves behind.
pub(crate) fn disconnect(fd: c_int) {
    let _was_not = with(fd, |fd| rustix::net::connect_unspec(fd));
}

/// A TCP connect that does not wait, whatever the socket: one that blocks is driven here too, after EINTR.
pub(crate) fn connect(fd: c_int, to: SocketAddr) -> Result<(), Errno> {
    let flags = with(fd, |fd| rustix::fs::fcntl_getfl(fd)).unwrap_or(OFlags::NONBLOCK);
    let set = |flags| with(fd, |fd| rustix::fs::fcntl_setfl(fd, flags));
    if !flags.contains(OFlags::NONBLOCK) {
        let _set = set(flags | OFlags::NONBLOCK);
    }
    let result = associate(fd, to);
    if !flags.contains(OFlags::NONBLOCK) {
        let _as_before = set(flags);
    }
    result
}

/// connect(2) of a datagram socket, which never waits.
pub(crate) fn associate(fd: c_int, to: SocketAddr) -> Result<(), Errno> {
    with(fd, |fd| rustix::net::connect(fd, &to)).map_err(|error| Errno(error.raw_os_error()))
}

/// A socket of our own that is open while the program's code runs. Without a destructor: pthread_cancel unwinds over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    fd: c_int,
    cookie: u64,
}

impl Own {
    /// A stream socket that does not block, whose TCP connect has begun. [`Own::close`] it.
    pub(crate) fn stream_towards(to: SocketAddr) -> Result<Self, Errno> {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let of_raw = |error: Raw| Errno(error.raw_os_error());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map(File::new)
            .map_err(of_raw)?;
        // Out of the way of programs that close and open the low numbers, standard output among them; as far as
        // RLIMIT_NOFILE lets it.
        let socket =
            rustix::io::fcntl_dupfd_cloexec(&socket, OWN_NUMBERS).map_or(socket, File::new);
        let cookie = sockopt::socket_cookie(&socket).map_err(of_raw)?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Raw::INPROGRESS) => Ok(Self {
                fd: socket.into_raw(),
                cookie,
            }),
            Err(error) => Err(of_raw(error)),
        }
    }

    /// Its number; `None` if the program has closed it, as those do that close whatever is open.
    pub(crate) fn fd(self) -> Option<c_int> {
        (cookie(self.fd) == Some(self.cookie)).then_some(self.fd)
    }

    pub(crate) fn close(self) {
        if let Some(fd) = self.fd() {
            close(fd);
        }
    }
}

/// The first number that a descriptor of our own may have while the program's code runs: as shells have it.
const OWN_NUMBERS: c_int = 100;

/// Closes a descriptor of our own.
pub(crate) fn close(fd: c_int) {
    // SAFETY: an [`Own`] that is open, or just made for a dup(2) that fails.
    unsafe { rustix::io::close(fd) };
}

/// Makes an unconnected socket that does not block look as one does whose connection was refused:
/// level- and edge-triggered, in every kind of wait, until its error is read. Nobody can listen on port
/// 0, so the kernel refuses at once; which errno it was in truth is for SO_ERROR's hook to say.
///
/// `gateway` is where the socket was last connected to: one that has spoken v4-mapped cannot speak v6.
pub(crate) fn refuse(fd: c_int, gateway: SocketAddr) {
    let is_v6 = with(fd, |fd| sockopt::socket_domain(fd)) == Ok(AddressFamily::INET6);
    let here: IpAddr = match (gateway.ip().to_canonical(), is_v6) {
        (IpAddr::V4(_), false) => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V4(_), true) => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        (IpAddr::V6(_), _) => Ipv6Addr::LOCALHOST.into(),
    };
    // Without a loopback interface the socket is an unconnected one: OUT and HUP, without ERR.
    let _refused = connect(fd, SocketAddr::new(here, 0));
}

/// One try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// This many octets.
    Octets(usize),
    /// None now: wait.
    Later,
    /// The other side closed.
    End,
    /// The connection is gone.
    Failed(Errno),
}

pub(crate) fn send(fd: c_int, octets: &[u8]) -> Moved {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    moved(|| with(fd, |fd| rustix::net::send(fd, octets, flags)))
}

pub(crate) fn receive(fd: c_int, room: &mut [u8]) -> Moved {
    match moved(|| {
        with(fd, |fd| {
            rustix::net::recv(fd, &mut *room, RecvFlags::DONTWAIT)
        })
        .map(|(len, _)| len)
    }) {
        Moved::Octets(0) => Moved::End,
        moved => moved,
    }
}

fn moved(mut attempt: impl FnMut() -> Result<usize, Raw>) -> Moved {
    loop {
        return match attempt() {
            Ok(len) => Moved::Octets(len),
            Err(Raw::INTR) => continue,
            // EINPROGRESS: TCP Fast Open, where the first send is the connect.
            Err(Raw::AGAIN | Raw::INPROGRESS) => Moved::Later,
            Err(error) => Moved::Failed(Errno(error.raw_os_error())),
        };
    }
}

pub(crate) fn peer(fd: c_int) -> Option<SocketAddr> {
    let peer = with(fd, |fd| rustix::net::getpeername(fd)).ok()??;
    SocketAddr::try_from(peer).ok()
}

pub(crate) fn local(fd: c_int) -> Option<SocketAddr> {
    SocketAddr::try_from(with(fd, |fd| rustix::net::getsockname(fd)).ok()?).ok()
}

pub(crate) fn bind(fd: c_int, to: SocketAddr) -> Result<(), Errno> {
    with(fd, |fd| rustix::net::bind(fd, &to)).map_err(|error| Errno(error.raw_os_error()))
}

/// Takes a port for a socket that has none, as connect(2) does.
pub(crate) fn bind_to_any(fd: c_int, family: Family) {
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    // EINVAL: it has been bound before.
    let _bound = bind(fd, SocketAddr::new(any, 0));
}

/// The address of this host that packets to `to` leave from.
pub(crate) fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (datagram, cloexec) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, datagram, cloexec, None)
        .map(File::new)
        .ok()?;
    rustix::net::connect(&socket, &to).ok()?;
    Some(local(socket.as_fd().as_raw_fd())?.ip())
}

/// This thread, as gettid(2) knows it.
pub(crate) fn thread() -> u64 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
        .into()
}

pub(crate) fn now() -> Clock {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    Clock(seconds.saturating_mul(1_000).saturating_add(milliseconds))
}
