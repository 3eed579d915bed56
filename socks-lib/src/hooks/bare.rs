//! syscall(2): the calls that this library has hooks for go to them, io_uring_setup says ENOSYS, and everything else passes
//! untouched. A list of what is allowed would break programs (getpid, futex, memfd_create, whatever comes next).

use std::ffi::{c_int, c_long, c_uint, c_ulong};

use socks_client::Errno;

use crate::next;
use crate::pending::PENDING;
use crate::sys::{cancel, errno};

/// The arguments of a system call.
type Words = [c_long; 6];

/// `syscall(2)`: no cancellation point, whatever the call.
///
/// libc's is variadic; here the arguments are whatever registers and stack hold, passed on as they are, which the calling
/// conventions of Linux on x86-64 and AArch64 allow. What passes does so by a jump, before anything is on the stack: a child
/// of clone(2) returns through no frame of ours.
///
/// # Safety
/// The C contract of the system call.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if is_hooked(number) {
        return hooked(number, a, b, c, d, e, f);
    }
    // SAFETY: the application's own arguments.
    unsafe { next::SYSCALL.get()(number, a, b, c, d, e, f) }
}

#[inline(never)]
fn hooked(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let state = cancel::disable();
    let result = match hook_of(number) {
        Some(hook) => hook([a, b, c, d, e, f]),
        // SAFETY: the application's own arguments.
        None => unsafe { next::SYSCALL.get()(number, a, b, c, d, e, f) },
    };
    cancel::restore(state);
    result
}

/// A call of one of libc's functions, which in here are the hooks; `Word` makes the arguments what it declares.
macro_rules! call {
    ($function:ident $($index:tt)*) => {
        |words: Words| {
            // SAFETY: the application's own arguments, to the hook of the call that it makes.
            let result = unsafe { libc::$function($(Word::from_word(words[$index])),*) };
            Answer::into_word(result)
        }
    };
}

macro_rules! hooks {
    (always { $($(#[$of:meta])? $number:ident => $hook:expr;)* }
     while_pending { $($(#[$wait_of:meta])? $wait:ident => $wait_hook:expr;)* }) => {
        /// One bit for each number that has a hook, so that the others pass with two instructions.
        const HOOKED: [u64; 8] = {
            let mut bits = [0; 8];
            $($(#[$of])? { bits = with(bits, libc::$number); })*
            $($(#[$wait_of])? { bits = with(bits, libc::$wait); })*
            bits
        };

        /// The hook of a system call. A wait has one only where there may be something for it to drive: the kernel's own
        /// calls differ from libc's in what they do to the time given.
        fn hook_of(number: c_long) -> Option<fn(Words) -> c_long> {
            Some(match number {
                $($(#[$of])? libc::$number => $hook,)*
                _ if !PENDING.was_any() => return None,
                $($(#[$wait_of])? libc::$wait => $wait_hook,)*
                _ => return None,
            })
        }
    };
}

hooks! {
    always {
        SYS_connect => call!(connect 0 1 2);
        SYS_sendto => call!(sendto 0 1 2 3 4 5);
        SYS_sendmsg => call!(sendmsg 0 1 2);
        SYS_sendmmsg => call!(sendmmsg 0 1 2 3);
        SYS_recvfrom => call!(recvfrom 0 1 2 3 4 5);
        SYS_recvmsg => call!(recvmsg 0 1 2);
        SYS_recvmmsg => call!(recvmmsg 0 1 2 3 4);
        SYS_getpeername => call!(getpeername 0 1 2);
        SYS_getsockname => call!(getsockname 0 1 2);
        SYS_getsockopt => call!(getsockopt 0 1 2 3 4);
        SYS_read => call!(read 0 1 2);
        SYS_write => call!(write 0 1 2);
        SYS_readv => call!(readv 0 1 2);
        SYS_writev => call!(writev 0 1 2);
        // The fifth word is the upper half of an offset, of which there is none.
        SYS_preadv2 => call!(preadv2 0 1 2 3 5);
        SYS_pwritev2 => call!(pwritev2 0 1 2 3 5);
        SYS_sendfile => call!(sendfile 0 1 2 3);
        SYS_splice => call!(splice 0 1 2 3 4 5);
        SYS_close => call!(close 0);
        SYS_dup => call!(dup 0);
        #[cfg(target_arch = "x86_64")]
        SYS_dup2 => call!(dup2 0 1);
        SYS_dup3 => call!(dup3 0 1 2);
        SYS_fcntl => |words| {
            let (fd, command) = (Word::from_word(words[0]), Word::from_word(words[1]));
            // SAFETY: the application's own arguments.
            unsafe { libc::fcntl(fd, command, words[2]) }.into_word()
        };
        SYS_epoll_ctl => call!(epoll_ctl 0 1 2 3);
        // Its rings would connect, send and receive where nobody sees it.
        SYS_io_uring_setup => |_| errno::fail(Errno(libc::ENOSYS)).into_word();
    }
    while_pending {
        SYS_accept => call!(accept 0 1 2);
        SYS_accept4 => call!(accept4 0 1 2 3);
        #[cfg(target_arch = "x86_64")]
        SYS_poll => call!(poll 0 1 2);
        SYS_ppoll => call!(ppoll 0 1 2 3);
        #[cfg(target_arch = "x86_64")]
        SYS_select => call!(select 0 1 2 3 4);
        SYS_ioctl => |words| {
            let (fd, request) = (Word::from_word(words[0]), Word::from_word(words[1]));
            // SAFETY: the application's own arguments.
            unsafe { libc::ioctl(fd, request, words[2]) }.into_word()
        };
        SYS_pselect6 => |words| {
            // SAFETY: null, or a pointer to the mask and its size (select(2)).
            let mask = unsafe { <*const [c_long; 2]>::from_word(words[5]).as_ref() };
            let mask = mask.map_or(0, |[mask, _size]| *mask);
            let [count, read, write, except, time, _] = words;
            call!(pselect 0 1 2 3 4 5)([count, read, write, except, time, mask])
        };
        #[cfg(target_arch = "x86_64")]
        SYS_epoll_wait => call!(epoll_wait 0 1 2 3);
        SYS_epoll_pwait => call!(epoll_pwait 0 1 2 3 4);
        SYS_epoll_pwait2 => call!(epoll_pwait2 0 1 2 3 4);
    }
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at compile time: a number of 512 and above does not build"
)]
const fn with(mut bits: [u64; 8], number: c_long) -> [u64; 8] {
    bits[number as usize / 64] |= 1 << (number % 64);
    bits
}

fn is_hooked(number: c_long) -> bool {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let word = HOOKED.get(number >> 6);
    word.is_some_and(|word| word >> (number & 63) & 1 != 0)
}

/// An argument as the kernel sees it: the lower half of a word for an int, which says nothing of the upper.
trait Word {
    fn from_word(word: c_long) -> Self;
}

/// What a function gives, as syscall(2) does: -1 is -1.
trait Answer {
    fn into_word(self) -> c_long;
}

macro_rules! word {
    ($($type:ty)*) => {
        $(impl Word for $type {
            fn from_word(word: c_long) -> Self {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::unnecessary_cast,
                    reason = "the same bits"
                )]
                let same = word as Self;
                same
            }
        })*
    };
}

word!(c_int c_uint c_ulong usize i64);

impl<T> Word for *const T {
    fn from_word(word: c_long) -> Self {
        std::ptr::with_exposed_provenance(usize::from_word(word))
    }
}

impl<T> Word for *mut T {
    fn from_word(word: c_long) -> Self {
        std::ptr::with_exposed_provenance_mut(usize::from_word(word))
    }
}

impl Answer for c_int {
    fn into_word(self) -> c_long {
        self.into()
    }
}

impl Answer for isize {
    fn into_word(self) -> c_long {
        c_long::try_from(self).unwrap_or(-1)
    }
}
