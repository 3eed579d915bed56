//! The resolver(3) functions: libc would send the question to a name server from inside; here the mapping table
//! answers it. A name is taken as it is, since the search list is the gateway's business.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use fake_dns::dns::{self, MAX_ANSWER};
use socks_client::{Errno, HostErrno};

use crate::enter::enter;
use crate::next;
use crate::sys::errno;

/// resolv.h: `struct __res_state` as far as its `res_h_errno`, which lies there on every 64-bit machine.
#[repr(C)]
struct Resolver {
    before: [u64; 62],
    h_errno: c_int,
}

/// The program's buffer for an answer.
#[derive(Clone, Copy)]
struct Room {
    octets: *mut u8,
    len: c_int,
}

/// How a message was answered.
struct Answered {
    /// As much as there was room for.
    len: c_int,
    rcode: u8,
    answers: u16,
}

/// resolv.h: NS_MAXDNAME.
const NAME_OCTETS: usize = 1025;
const HEADER_OCTETS: usize = 12;

/// Answers `message` into `room`, as `res_send` does; `None` with errno set if it fails.
///
/// # Safety
/// `room.octets` is writable for `room.len`.
unsafe fn exchange(message: &[u8], room: Room) -> Option<Answered> {
    let mut answer = [0; MAX_ANSWER];
    let len = enter(Err(Errno::BROKEN), Err(Errno::BROKEN), |state| {
        Ok(dns::answer(message, state, &mut answer).map(<[u8]>::len))
    });
    let given = usize::try_from(room.len).unwrap_or(0);
    let error = match len {
        _ if given < HEADER_OCTETS => Errno(libc::EINVAL),
        Err(error) => error,
        // A name server says nothing to what is no question.
        Ok(None) => Errno::NO_ANSWER,
        Ok(Some(len)) => {
            let len = len.min(given);
            // SAFETY: our caller's contract; `answer` is as long.
            unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), room.octets, len) };
            let [_, _, _, flags, _, _, answers @ .., _, _, _, _] = header(&answer);
            let rcode = flags & 15;
            if !dns::is_refusal(rcode) {
                return Some(Answered {
                    len: c_int::try_from(len).unwrap_or(0),
                    rcode,
                    answers: u16::from_be_bytes(answers),
                });
            }
            // libc asks the next server, until there is none.
            Errno::NO_ANSWER
        }
    };
    errno::set(error.0);
    None
}

fn header(answer: &[u8; MAX_ANSWER]) -> [u8; HEADER_OCTETS] {
    answer.first_chunk().copied().unwrap_or_default()
}

/// `res_nsend` and `res_send`.
///
/// # Safety
/// The C contract: `message` readable for `message_len`, `room` writable.
unsafe fn send(message: *const u8, message_len: c_int, room: Room) -> c_int {
    let message = match usize::try_from(message_len) {
        // SAFETY: our caller's contract.
        Ok(len @ 1..) => unsafe { std::slice::from_raw_parts(message, len) },
        _ => &[],
    };
    // SAFETY: our caller's contract.
    unsafe { exchange(message, room) }.map_or(-1, |answered| answered.len)
}

/// `res_nquery` and `res_query`, `res_nsearch` and `res_search`.
///
/// # Safety
/// The C contract: `name` NUL-terminated, `room` writable, `resolver` null or valid.
unsafe fn query(
    resolver: *mut Resolver,
    name: *const c_char,
    class: c_int,
    kind: c_int,
    room: Room,
) -> c_int {
    const QUERY: c_int = 0; // the opcode
    let before = errno::get();
    let mut message = [0; 512];
    let most = c_int::try_from(message.len()).unwrap_or(0);
    let make = if next::RES_MKQUERY.is_there() {
        &next::RES_MKQUERY
    } else {
        &next::RES_MKQUERY_BEFORE_2_34
    };
    // SAFETY: our caller's name, and a buffer of this length.
    let len = unsafe {
        make.get()(
            QUERY,
            name,
            class,
            kind,
            ptr::null(),
            0,
            ptr::null(),
            message.as_mut_ptr(),
            most,
        )
    };
    let message = usize::try_from(len).ok().and_then(|len| message.get(..len));
    let failed = match message {
        None => HostErrno::NO_RECOVERY,
        // SAFETY: our caller's contract.
        Some(message) => match unsafe { exchange(message, room) } {
            None => HostErrno::TRY_AGAIN,
            Some(answered) => match HostErrno::of_answer(answered.rcode, answered.answers) {
                None => {
                    errno::set(before); // res_mkquery(3) reads resolv.conf
                    return answered.len;
                }
                Some(error) => error,
            },
        },
    };
    // SAFETY: our caller's contract.
    if let Some(resolver) = unsafe { resolver.as_mut() } {
        resolver.h_errno = failed.0;
    }
    errno::set_host(failed);
    -1
}

/// `res_nquerydomain` and `res_querydomain`: the name with the domain behind it.
///
/// # Safety
/// The C contract: as [`query`]; `domain` null or NUL-terminated.
unsafe fn query_domain(
    resolver: *mut Resolver,
    name: *const c_char,
    domain: *const c_char,
    class: c_int,
    kind: c_int,
    room: Room,
) -> c_int {
    // SAFETY: our caller's contract.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let domain = if domain.is_null() {
        &[]
    } else {
        // SAFETY: our caller's contract.
        unsafe { CStr::from_ptr(domain) }.to_bytes()
    };
    let mut whole = [0; NAME_OCTETS];
    let parts = [name, b".", domain, b"\0"];
    let mut rest = &mut whole[..];
    for part in parts {
        let Some((place, left)) = rest.split_at_mut_checked(part.len()) else {
            errno::set_host(HostErrno::NO_RECOVERY);
            return -1;
        };
        place.copy_from_slice(part);
        rest = left;
    }
    // SAFETY: NUL-terminated above; the rest is our caller's contract.
    unsafe { query(resolver, whole.as_ptr().cast(), class, kind, room) }
}

macro_rules! resolver {
    ($($name:ident $alias:ident = $function:ident($($argument:ident: $type:ty),*)
        with ($($given:expr),*);)*
    ) => {
        $(resolver!(@ $name, $function($($argument: $type),*) with ($($given),*));
        resolver!(@ $alias, $function($($argument: $type),*) with ($($given),*));)*
    };
    (@ $name:ident, $function:ident($($argument:ident: $type:ty),*) with ($($given:expr),*)) => {
        /// One of resolver(3).
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type,)* octets: *mut u8, len: c_int) -> c_int {
            // SAFETY: our caller's contract.
            unsafe { $function($($given,)* Room { octets, len }) }
        }
    };
}

resolver! {
    res_query __res_query = query(name: *const c_char, class: c_int, kind: c_int)
        with (ptr::null_mut(), name, class, kind);
    res_search __res_search = query(name: *const c_char, class: c_int, kind: c_int)
        with (ptr::null_mut(), name, class, kind);
    res_querydomain __res_querydomain = query_domain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int)
        with (ptr::null_mut(), name, domain, class, kind);
    res_send __res_send = send(message: *const u8, message_len: c_int)
        with (message, message_len);
    res_nquery __res_nquery = query(resolver: *mut c_void, name: *const c_char, class: c_int, kind: c_int)
        with (resolver.cast(), name, class, kind);
    res_nsearch __res_nsearch = query(resolver: *mut c_void, name: *const c_char, class: c_int, kind: c_int)
        with (resolver.cast(), name, class, kind);
    res_nquerydomain __res_nquerydomain = query_domain(resolver: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int)
        with (resolver.cast(), name, domain, class, kind);
    res_nsend __res_nsend = send(_resolver: *mut c_void, message: *const u8, message_len: c_int)
        with (message, message_len);
}
