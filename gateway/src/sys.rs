//! What libc has to be asked for directly: names, the host's own addresses, how much of a stream the
//! kernel still holds, and threads that take no more memory than they need.
#![expect(
    unsafe_code,
    reason = "lists of the resolver and of the interfaces are C structures, and pthread_create is C"
)]

pub(crate) mod process;

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{addrinfo, c_int, ifaddrs, sockaddr};

/// What getaddrinfo(3) said in place of an answer: an EAI_ code, and errno behind EAI_SYSTEM.
#[derive(Debug)]
pub(crate) struct Eai {
    pub(crate) code: c_int,
    pub(crate) system: Option<io::Error>,
}

/// The stream addresses of a name, in the order of RFC 6724, with port 0. std's `ToSocketAddrs`
/// does the same and hides the EAI_ code, without which a name that does not exist looks like a
/// name server that does not answer. Blocks for as long as resolv.conf allows.
pub(crate) fn addresses_of(name: &CStr) -> Result<Vec<SocketAddr>, Eai> {
    // No AI_ADDRCONFIG: an address of a family without a route fails its attempt at once, and the
    // flag would hide every address of a family that the host has on loopback only.
    let hints = addrinfo {
        ai_flags: 0,
        ai_family: libc::AF_UNSPEC,
        ai_socktype: libc::SOCK_STREAM,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: ptr::null_mut(),
    };
    let mut list: *mut addrinfo = ptr::null_mut();
    // SAFETY: `name` is a C string, `hints` is fully initialised, `list` is ours to be written to;
    // a null service is allowed.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list) };
    if code != 0 {
        let system = (code == libc::EAI_SYSTEM).then(io::Error::last_os_error);
        return Err(Eai { code, system });
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an element of the list that getaddrinfo has just made.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: ai_addr points to an address of the family that it says, as getaddrinfo promises.
        addresses.extend(unsafe { socket_address(entry.ai_addr) });
        next = entry.ai_next;
    }
    // SAFETY: the list is getaddrinfo's and nothing refers to it any more.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

/// mallopt(3): one arena, in place of one for each processor and thread, which keeps so much when it gives memory back.
pub(crate) fn share_one_heap(kept_octets: c_int) {
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_TOP_PAD, kept_octets)] {
        // SAFETY: takes numbers, and may be called at any time. A libc that does not know of one says so and goes on.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives the memory of free pages anywhere in the heap back to the kernel, but for so much at its top.
pub(crate) fn trim_heap(kept_octets: usize) {
    // SAFETY: takes a number, and may be called at any time.
    unsafe { libc::malloc_trim(kept_octets) };
}

/// The name of an address, by getnameinfo(3). Blocks for as long as resolv.conf allows.
pub(crate) fn name_of(ip: IpAddr) -> Result<CString, Eai> {
    let address = rustix::net::SocketAddrAny::from(SocketAddr::new(ip, 0));
    let mut host = [0_u8; libc::NI_MAXHOST as usize];
    // SAFETY: a whole address of its family and its length, room for the host, and no service asked for.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.addr_len(),
            host.as_mut_ptr().cast(),
            libc::NI_MAXHOST,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        let system = (code == libc::EAI_SYSTEM).then(io::Error::last_os_error);
        return Err(Eai { code, system });
    }
    let host = CStr::from_bytes_until_nul(&host).unwrap_or_default();
    Ok(host.to_owned())
}

/// Every address of this host's interfaces.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut ifaddrs = ptr::null_mut();
    // SAFETY: `list` is ours to be written to.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an element of the list that getifaddrs has just made.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: ifa_addr is null or points to an address of the family that it says.
        addresses.extend(unsafe { socket_address(entry.ifa_addr) }.map(|address| address.ip()));
        next = entry.ifa_next;
    }
    // SAFETY: the list is getifaddrs's and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// Octets that were written to a TCP socket and that its peer has not acknowledged.
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut octets: c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ by another name) writes one int through the pointer.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(octets).unwrap_or(0))
}

/// bind(2) of this socket to an address leaves the port to connect(2), which then needs one that is free for its
/// destination alone.
pub(crate) fn choose_port_late(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the option's value is one int, of 4 octets. IPv6 sockets have it at this level too.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            4,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Starts a thread that nobody joins. `run` must not panic: there is nowhere to unwind to.
///
/// std's threads map a stack for signal handlers besides their own. That is two more mappings of a
/// limited number (vm.max_map_count) for each relay, and where that number is reached in between the
/// whole process aborts, whereas here all that can fail has failed before the thread exists.
pub(crate) fn spawn(stack_octets: usize, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    extern "C" fn start(run: *mut c_void) -> *mut c_void {
        // SAFETY: a `Run` that was leaked for this thread alone, a few lines below.
        let run = unsafe { Box::from_raw(run.cast::<Run>()) };
        run();
        ptr::null_mut()
    }
    type Run = Box<dyn FnOnce() + Send>;

    let attributes = Attributes::new(stack_octets)?;
    let run: *mut Run = Box::into_raw(Box::new(Box::new(run)));
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the attributes are initialised, `thread` is ours to be written to, and `start` takes
    // what it is given.
    let errno = unsafe {
        libc::pthread_create(&raw mut thread, &raw const attributes.0, start, run.cast())
    };
    if errno != 0 {
        // SAFETY: no thread has been started, so this is still the only pointer to it.
        drop(unsafe { Box::from_raw(run) });
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok(())
}

struct Attributes(libc::pthread_attr_t);

impl Attributes {
    fn new(stack_octets: usize) -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: `attributes` is ours to be initialised.
        check(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the line above, which would have failed otherwise.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        // SAFETY: an initialised attribute object, here and in the next call.
        check(unsafe { libc::pthread_attr_setstacksize(&raw mut attributes.0, stack_octets) })?;
        let detached = libc::PTHREAD_CREATE_DETACHED;
        // SAFETY: as above.
        check(unsafe { libc::pthread_attr_setdetachstate(&raw mut attributes.0, detached) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and destroyed once.
        unsafe { libc::pthread_attr_destroy(&raw mut self.0) };
    }
}

fn check(errno: c_int) -> io::Result<()> {
    if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno))
    }
}

/// An IP address out of a C one; `None` if it is null or of another family.
///
/// # Safety
/// `address` is null, or readable for as much as the family that it begins with needs.
unsafe fn socket_address(address: *const sockaddr) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, hence readable for a family at least: our caller's contract.
    let family = c_int::from(unsafe { (*address).sa_family });
    match family {
        libc::AF_INET => {
            // SAFETY: of this family, hence a whole sockaddr_in: our caller's contract.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, hence a whole sockaddr_in6: our caller's contract.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_its_own_address_in_both_families() {
        let v4 = addresses_of(c"192.0.2.7").unwrap();
        assert_eq!(v4, ["192.0.2.7:0".parse().unwrap()]);
        let v6 = addresses_of(c"2001:db8::7").unwrap();
        assert_eq!(v6, ["[2001:db8::7]:0".parse().unwrap()]);
    }

    #[test]
    fn a_name_that_cannot_exist_says_which_kind_of_failure_it_is() {
        // RFC 6761 §6.4: `invalid` never resolves. Without a name server it is EAI_AGAIN.
        let eai = addresses_of(c"no.such.name.invalid").unwrap_err();
        assert!(
            [libc::EAI_NONAME, libc::EAI_AGAIN].contains(&eai.code),
            "{eai:?}"
        );
    }

    #[test]
    fn a_thread_runs_what_it_was_given() {
        let (sender, receiver) = std::sync::mpsc::channel();
        spawn(256 << 10, move || sender.send(7).unwrap()).unwrap();
        assert_eq!(receiver.recv().unwrap(), 7);
        assert!(spawn(1, || ()).is_err(), "a stack of one octet");
    }

    #[test]
    fn loopback_is_among_the_own_addresses() {
        assert!(
            own_addresses()
                .unwrap()
                .contains(&IpAddr::from([127, 0, 0, 1]))
        );
    }
}
