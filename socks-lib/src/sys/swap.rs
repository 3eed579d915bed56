//! An AF_INET socket and a gateway that only v6 reaches: another socket under the same number
//! (DESIGN §2, "Sockets of the wrong family").

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use libc::socklen_t;
use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{OFlags, RawDir};
use rustix::io::{DupFlags, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socks_client::Errno;

use crate::next;
use crate::sys::file::{self, File};
use crate::sys::io;

/// What has changed.
#[derive(Debug)]
pub(crate) struct Swapped {
    /// The new socket's SO_COOKIE.
    pub(crate) cookie: u64,
    /// A local address that was bound and that the new family cannot express.
    pub(crate) lost_address: Option<SocketAddr>,
}

/// Options that an application can set before connect() and that the new socket takes over, where the
/// old one has them: (level, name). IP's own count for v4-mapped traffic and are read back as set.
const OPTIONS: &[(c_int, c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    (libc::SOL_SOCKET, libc::SO_DEBUG),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_MINTTL),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_TTL),
];

/// Buffer sizes are read back doubled (socket(7)).
const BUFFERS: [c_int; 2] = [libc::SO_RCVBUF, libc::SO_SNDBUF];

/// Puts an AF_INET6 socket under the number of the AF_INET socket `fd`, and under those of its
/// duplicates in this process, with its flags, options, port and epoll registrations.
pub(crate) fn to_v6(fd: c_int) -> Result<Swapped, Errno> {
    // SAFETY: the application's own socket (facts were read from it), borrowed for this call.
    let old = unsafe { BorrowedFd::borrow_raw(fd) };
    let old_cookie = sockopt::socket_cookie(old).map_err(of_raw)?;
    let protocol = sockopt::socket_protocol(old).map_err(of_raw)?;
    let (stream, cloexec) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let new = rustix::net::socket_with(AddressFamily::INET6, stream, cloexec, protocol)
        .map(File::new)
        .map_err(of_raw)?;
    // A v6 socket that is not V6ONLY would collide with the old one at its port.
    sockopt::set_ipv6_v6only(&new, true).map_err(of_raw)?;
    let new_number = new.as_fd().as_raw_fd();
    for &(level, name) in OPTIONS {
        copy_option(fd, new_number, level, name);
    }
    copy_buffers(fd, new_number);
    copy_v4_only_options(old, new.as_fd());
    let lost_address = bind_same_port(fd, &new)?;
    if let Ok(flags) = rustix::fs::fcntl_getfl(old) {
        let _kept = rustix::fs::fcntl_setfl(&new, flags);
    }
    let cookie = sockopt::socket_cookie(&new).map_err(of_raw)?;
    let mut failed = replace(fd, &new);
    for_each_duplicate(old_cookie, |duplicate| {
        let result = replace(duplicate, &new);
        failed = failed.or(result);
    });
    failed.map_or(
        Ok(Swapped {
            cookie,
            lost_address,
        }),
        Err,
    )
}

/// Calls `visit` with each descriptor of this process whose socket has this cookie.
pub(crate) fn for_each_duplicate(cookie: u64, mut visit: impl FnMut(c_int)) {
    for_each_descriptor(|fd| {
        if io::cookie(fd) == Some(cookie) {
            visit(fd);
        }
    });
}

fn of_raw(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

/// The kernel refuses what does not apply; then the new socket keeps its default, as the old one had.
fn copy_option(old: c_int, new: c_int, level: c_int, name: c_int) {
    let mut value = [MaybeUninit::<u8>::zeroed(); 64];
    let mut len = socklen_t::try_from(value.len()).unwrap_or(0);
    let room = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `room` is writable for `len` octets.
    if unsafe { next::GETSOCKOPT.get()(old, level, name, room, &raw mut len) } == 0 {
        // SAFETY: getsockopt(2) wrote `len` octets.
        unsafe { next::SETSOCKOPT.get()(new, level, name, room, len) };
    }
}

fn copy_buffers(old: c_int, new: c_int) {
    let read = |fd, name| {
        let mut size: c_int = 0;
        let mut len = socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
        // SAFETY: `size` is writable for `len` octets.
        let result = unsafe {
            next::GETSOCKOPT.get()(
                fd,
                libc::SOL_SOCKET,
                name,
                (&raw mut size).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some(size)
    };
    for name in BUFFERS {
        // Unless it was set, it is left to the kernel, which tunes it as the connection goes.
        let (Some(wanted), Some(default)) = (read(old, name), read(new, name)) else {
            continue;
        };
        if wanted != default {
            let half = wanted.checked_div(2).unwrap_or(0);
            let len = socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
            // SAFETY: `half` is readable for `len` octets.
            unsafe {
                next::SETSOCKOPT.get()(new, libc::SOL_SOCKET, name, (&raw const half).cast(), len)
            };
        }
    }
}

/// What IPv4 calls TOS and TTL, in v6's terms, so that it also counts on the way to the gateway.
fn copy_v4_only_options(old: BorrowedFd<'_>, new: BorrowedFd<'_>) {
    if let Ok(tos) = sockopt::ip_tos(old) {
        let _kept = sockopt::set_ipv6_tclass(new, u32::from(tos));
    }
    if let Ok(ttl) = sockopt::ip_ttl(old) {
        let _kept = sockopt::set_ipv6_unicast_hops(new, u8::try_from(ttl).ok());
    }
}

/// Binds the new socket to the port that the old one is bound to, if it is; gives the old address if
/// it was a certain one.
fn bind_same_port(old: c_int, new: &File) -> Result<Option<SocketAddr>, Errno> {
    let Some(bound) = io::local(old).filter(|bound| bound.port() != 0) else {
        return Ok(None);
    };
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, bound.port(), 0, 0);
    rustix::net::bind(new, &any).map_err(of_raw)?;
    Ok((!bound.ip().is_unspecified()).then_some(bound))
}

/// dup3 with the number's own FD_CLOEXEC, and its epoll registrations deleted before and added after:
/// an old one keeps firing as long as a duplicate of the old socket lives anywhere.
fn replace(number: c_int, new: &File) -> Option<Errno> {
    let mut target = file::borrowed_target(number);
    let is_cloexec =
        rustix::io::fcntl_getfd(&*target).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
    let flags = if is_cloexec {
        DupFlags::CLOEXEC
    } else {
        DupFlags::empty()
    };
    let mut registrations = Registrations::default();
    for_each_descriptor(|fd| registrations.collect(fd, number));
    for registration in registrations.iter() {
        // SAFETY: an epoll descriptor of the application's, borrowed for this call.
        let set = unsafe { BorrowedFd::borrow_raw(registration.set) };
        let _gone = epoll::delete(set, &*target);
    }
    let result = rustix::io::dup3(new, &mut target, flags);
    for registration in registrations.iter() {
        // SAFETY: as above.
        let set = unsafe { BorrowedFd::borrow_raw(registration.set) };
        let data = epoll::EventData::new_u64(registration.data);
        let events = epoll::EventFlags::from_bits_retain(registration.events);
        let _added = epoll::add(set, &*target, data, events);
    }
    result.err().map(of_raw)
}

/// One epoll registration: epoll_ctl(2).
#[derive(Debug, Clone, Copy)]
struct Registration {
    set: c_int,
    events: u32,
    data: u64,
}

/// The registrations of one descriptor; more than a handful of sets for one socket is unheard of.
#[derive(Debug, Default)]
struct Registrations {
    found: [Option<Registration>; 16],
}

impl Registrations {
    fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.found.iter().flatten()
    }

    /// Reads `set`'s registrations of `number` from /proc/self/fdinfo, if it is an epoll set:
    /// `tfd: N events: HEX data: HEX …`, proc_pid_fdinfo(5).
    fn collect(&mut self, set: c_int, number: c_int) {
        for_each_line_of_fdinfo(set, |line| {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("tfd:") {
                return;
            }
            let tfd = words.next().and_then(|word| word.parse::<c_int>().ok());
            let events = words
                .nth(1)
                .and_then(|word| u32::from_str_radix(word, 16).ok());
            let data = words
                .nth(1)
                .and_then(|word| u64::from_str_radix(word, 16).ok());
            if let (Some(tfd), Some(events), Some(data)) = (tfd, events, data)
                && tfd == number
                && let Some(room) = self.found.iter_mut().find(|room| room.is_none())
            {
                *room = Some(Registration { set, events, data });
            }
        });
    }
}

fn for_each_descriptor(mut visit: impl FnMut(c_int)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(folder) = File::open(Path::new("/proc/self/fd"), flags) else {
        return;
    };
    let mut room = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&folder, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let number = str::from_utf8(entry.file_name().to_bytes())
            .ok()
            .and_then(|n| n.parse().ok());
        if let Some(number) = number {
            visit(number);
        }
    }
}

fn for_each_line_of_fdinfo(fd: c_int, mut visit: impl FnMut(&str)) {
    use std::fmt::Write;
    let mut path = ShortPath::default();
    if write!(path, "/proc/self/fdinfo/{fd}").is_err() {
        return;
    }
    let Ok(file) = File::open(Path::new(path.as_str()), OFlags::RDONLY) else {
        return;
    };
    let (mut room, mut filled) = ([0_u8; 1024], 0_usize);
    while let Ok(len @ 1..) = file.read(room.get_mut(filled..).unwrap_or_default()) {
        filled = len.saturating_add(filled);
        let whole = room.get(..filled).unwrap_or_default();
        let Some(end) = whole.iter().rposition(|&octet| octet == b'\n') else {
            return;
        };
        let text = whole
            .get(..end)
            .and_then(|lines| str::from_utf8(lines).ok());
        text.unwrap_or_default().lines().for_each(&mut visit);
        let rest = end.saturating_add(1);
        room.copy_within(rest..filled, 0);
        filled = filled.saturating_sub(rest);
    }
}

/// A short path, without heap.
#[derive(Default)]
struct ShortPath {
    text: [u8; 32],
    len: usize,
}

impl ShortPath {
    fn as_str(&self) -> &str {
        self.text
            .get(..self.len)
            .and_then(|text| str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

impl std::fmt::Write for ShortPath {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len.saturating_add(text.len());
        let room = self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
