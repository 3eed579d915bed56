//! connect(2).

use std::ffi::c_int;
use std::net::SocketAddr;

use libc::{pollfd, sockaddr, socklen_t};
use socks_client::{Errno, is_local};

use crate::dial::{Event, Start, Turn};
use crate::enter::enter;
use crate::next;
use crate::pending::{Needs, PENDING};
use crate::start;
use crate::state::State;
use crate::sys::abi::{self, Given, Sockaddr};
use crate::sys::{errno, io};

/// `connect(2)`: async-signal-safe and a cancellation point, and so is everything on this path.
///
/// # Safety
/// The C contract: `addr` is null or readable for `len` octets.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: our caller's contract, passed on.
    let dialled = match unsafe { abi::copy_in(addr, len) } {
        Given::Inet(asked) => dial(fd, asked),
        Given::Unspec => {
            enter((), (), |state| state.forget(fd));
            None
        }
        Given::Other => None,
    };
    match dialled {
        // SAFETY: the application's own arguments, to the function it meant to call.
        None => unsafe { next::CONNECT.get()(fd, addr, len) },
        Some(Ok(())) => 0,
        Some(Err(error)) => errno::fail(error),
    }
}

/// glibc's other name for connect(2).
///
/// # Safety
/// As [`connect`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: our caller's contract, passed on.
    unsafe { connect(fd, addr, len) }
}

/// `shutdown(2)`: async-signal-safe. Of a socket that is still connecting it ends the attempt, as the kernel's does.
///
/// # Safety
/// The C contract.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn shutdown(fd: c_int, how: c_int) -> c_int {
    let is_how = (libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how);
    if PENDING.is_any() && is_how && enter(false, false, |state| state.break_off(fd)) {
        return 0;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::SHUTDOWN.get()(fd, how) }
}

/// Connects `fd` to `asked` through the gateway; `None` if that is libc's business. Nothing in here has
/// a destructor while libc's connect and poll run: pthread_cancel unwinds through.
pub(crate) fn dial(fd: c_int, asked: SocketAddr) -> Option<Result<(), Errno>> {
    let before = errno::get();
    let broken = if start::has_failed() {
        if is_local(asked.ip()) {
            Start::Pass
        } else {
            Start::Fail(Errno::FAIL_CLOSED)
        }
    } else {
        Start::Fail(Errno::BROKEN)
    };
    let mut call = match enter(Start::Pass, broken, |state| state.begin_connect(fd, asked)) {
        Start::Pass => return None,
        Start::PassTo(address) => {
            let (address, len) = Sockaddr::new(address);
            // SAFETY: a whole sockaddr of this length.
            let result = unsafe { next::CONNECT.get()(fd, address.as_ptr(), len) };
            return Some(if result == 0 {
                Ok(())
            } else {
                Err(Errno(errno::get()))
            });
        }
        Start::Done => return Some(Ok(())),
        Start::Fail(error) => return Some(Err(error)),
        Start::Dial(call) => call,
    };
    let mut event = Event::Begin;
    loop {
        let broken = Turn::Fail(Errno::BROKEN);
        event = match enter(broken, broken, |state| state.turn(&mut call, event)) {
            Turn::Done => {
                errno::set(before);
                return Some(Ok(()));
            }
            Turn::Fail(error) => return Some(Err(error)),
            Turn::Connect(gateway) => {
                let (gateway, len) = Sockaddr::new(gateway);
                // SAFETY: a whole sockaddr of this length.
                let result = unsafe { next::CONNECT.get()(fd, gateway.as_ptr(), len) };
                Event::Connected(if result == 0 {
                    Ok(())
                } else {
                    Err(Errno(errno::get()))
                })
            }
            Turn::Wait(events, milliseconds) => {
                let mut waited = pollfd {
                    fd,
                    events,
                    revents: 0,
                };
                // SAFETY: one pollfd.
                let result = unsafe { next::POLL.get()(&raw mut waited, 1, milliseconds) };
                let is_interrupted = result < 0 && errno::get() == libc::EINTR;
                if is_interrupted {
                    Event::Interrupted
                } else {
                    Event::Woken
                }
            }
        };
    }
}

impl State {
    /// The kernel's socket is an unconnected one again, with ECONNRESET in SO_ERROR; false if there is no handshake to end.
    fn break_off(&self, fd: c_int) -> bool {
        if self.drive_pending(fd) == Needs::Nothing {
            return false;
        }
        self.forget(fd);
        io::disconnect(fd);
        true
    }

    /// connect(2) with AF_UNSPEC dissolves the association: the socket is a plain one again.
    fn forget(&self, fd: c_int) {
        let Some(cookie) = io::cookie(fd) else { return };
        let Some(row) = self.sockets.row(fd) else {
            return;
        };
        if self.process.own().is_some()
            && let Some(view) = row.view(cookie)
        {
            if let Some(handshake) = self.handshakes.get(view.handshake)
                && handshake.standing(cookie).is_some()
            {
                self.end(fd, handshake);
            }
            self.settle(fd, cookie, row);
            row.clear();
        }
        self.table.forget(cookie);
    }
}
