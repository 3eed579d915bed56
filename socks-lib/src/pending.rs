//! Handshakes of sockets that do not block, driven by the program's own waits: no helper thread, no
//! helper process (DESIGN §2, "A non-blocking connect() never blocks").
//!
//! Whoever looks at such a socket, by poll, select, epoll_wait, SO_ERROR, a second connect() or an early
//! read or write, takes its handshake as far as it goes. In an epoll set the socket stands under what the
//! handshake needs, with the address of its row as data: a *marker*; when the handshake is over, one
//! EPOLL_CTL_MOD puts the program's own events and data back, which re-arms edge-triggered sets as well.

use std::ffi::{c_int, c_short};

use libc::epoll_event;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::BorrowedFd;
use socks_client::{Errno, Handshake, Pending, Registration, Row, Stage};

use crate::dial::{Call, Driven, Event};
use crate::state::State;
use crate::sys::io;

/// The descriptors of this process whose handshakes are under way. One load of it is all that a wait, a
/// read or a write of a program with nothing pending costs.
pub(crate) static PENDING: Pending = Pending::new();

/// What a descriptor's handshake needs, if it has one under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: the descriptor is the kernel's.
    Nothing,
    /// This of poll, for at most so many milliseconds.
    Wait(c_short, c_int),
}

impl State {
    /// Takes the handshake of `fd` as far as it goes.
    pub(crate) fn drive_pending(&self, fd: c_int) -> Needs {
        if !PENDING.has(fd) {
            return Needs::Nothing;
        }
        // A vfork child leaves its parent's handshakes alone.
        let (Some(row), Some(_own)) = (self.sockets.row(fd), self.process.own()) else {
            return Needs::Nothing;
        };
        let known = io::cookie(fd).and_then(|cookie| Some((cookie, row.view(cookie)?)));
        let Some((cookie, view)) = known else {
            // Closed behind our back; the number may be another socket's already.
            PENDING.remove(fd);
            return Needs::Nothing;
        };
        let Some(handshake) = self.handshakes.get(view.handshake) else {
            return Needs::Nothing;
        };
        match handshake.standing(cookie) {
            Some(standing) if standing.stage.is_under_way() => {
                let Some(mut call) = self.call(fd, cookie, row, &view, handshake, &standing) else {
                    return Needs::Nothing;
                };
                call.pend();
                match self.drive(&mut call, Event::Woken) {
                    Driven::Wants(events, milliseconds) => {
                        // Nothing, if another thread is stepping it: then that one marks.
                        if events != 0 {
                            self.mark(row, fd, events);
                        }
                        Needs::Wait(events, milliseconds)
                    }
                    Driven::Over(_) => {
                        for number in PENDING.iter() {
                            let row = self
                                .sockets
                                .row(number)
                                .filter(|r| r.view(cookie).is_some());
                            row.inspect(|row| self.settle(number, row));
                        }
                        Needs::Nothing
                    }
                }
            }
            // Another thread, or the socket's other number, has ended it.
            _ => {
                self.settle(fd, row);
                Needs::Nothing
            }
        }
    }

    /// connect() ends and the handshake does not: from now on the program's waits drive it.
    pub(crate) fn pend(&self, call: &Call) {
        if !PENDING.has(call.fd) && PENDING.insert(call.fd) {
            self.drive_pending(call.fd);
        }
    }

    /// Takes every handshake as far as it goes, and notices those whose time is over.
    pub(crate) fn drive_all(&self) {
        for fd in PENDING.iter() {
            self.drive_pending(fd);
        }
    }

    /// Puts the socket into its epoll sets under what the handshake needs.
    pub(crate) fn mark(&self, row: &'static Row, fd: c_int, events: c_short) {
        let events = EventFlags::from_bits_retain(u32::from(events.unsigned_abs()));
        for registration in row.registrations() {
            modify(fd, &registration, events, marker(row));
        }
    }

    /// The handshake is over, or forgotten: the program's own events and data are back in the sets.
    pub(crate) fn settle(&self, fd: c_int, row: &'static Row) {
        // A failure is kept until its errno has been asked for.
        let is_failed = self.failure(fd).is_some();
        if is_failed || PENDING.remove(fd) {
            for registration in row.registrations() {
                let events = EventFlags::from_bits_retain(registration.events);
                modify(fd, &registration, events, registration.data);
            }
        }
    }

    /// The errno with which the handshake of `fd` failed, and that nobody has asked for yet.
    pub(crate) fn failure(&self, fd: c_int) -> Option<(Errno, &'static Handshake)> {
        let cookie = io::cookie(fd)?;
        let view = self.sockets.row(fd)?.view(cookie)?;
        let handshake = self.handshakes.get(view.handshake)?;
        match handshake.standing(cookie)?.stage {
            Stage::Failed(errno) => Some((errno, handshake)),
            _ => None,
        }
    }

    /// Gives the errno of a failed handshake, once.
    pub(crate) fn take_failure(&self, fd: c_int) -> Option<Errno> {
        let (errno, handshake) = self.failure(fd)?;
        handshake.set(Stage::Told);
        PENDING.remove(fd);
        Some(errno)
    }

    /// A further connect() has ended a handshake.
    pub(crate) fn forget_handshake(&self, fd: c_int, row: &'static Row, handshake: &Handshake) {
        handshake.end();
        self.settle(fd, row);
        row.clear();
    }

    /// The descriptor whose marker `data` is.
    pub(crate) fn marked(&self, data: u64) -> Option<c_int> {
        let rows = self.sockets.addresses();
        let address = usize::try_from(data)
            .ok()
            .filter(|address| rows.contains(address))?;
        let index = address
            .checked_sub(rows.start)?
            .checked_div(size_of::<Row>())?;
        c_int::try_from(index).ok()
    }

    /// What epoll_ctl(2) is to be called with in place of the program's own events and data.
    pub(crate) fn on_epoll_ctl(&self, fd: c_int) -> Option<epoll_event> {
        let Needs::Wait(events, _) = self.drive_pending(fd) else {
            return None;
        };
        let row = self.sockets.row(fd)?;
        Some(epoll_event {
            events: u32::from(events.unsigned_abs()),
            u64: marker(row),
        })
    }

    /// close(2) and what else makes a number free.
    pub(crate) fn closing(&self, fd: c_int) {
        if self.process.own().is_some() {
            PENDING.remove(fd);
        }
    }
}

fn marker(row: &'static Row) -> u64 {
    u64::try_from((&raw const *row).addr()).unwrap_or(0)
}

/// EPOLL_CTL_MOD; EPOLLEXCLUSIVE allows none (epoll_ctl(2)), hence DEL and ADD. A set that does not have
/// the descriptor any more says so, and that is all.
fn modify(fd: c_int, registration: &Registration, events: EventFlags, data: u64) {
    // SAFETY: an epoll descriptor of the program's, borrowed for this call.
    let set = unsafe { BorrowedFd::borrow_raw(registration.set) };
    // SAFETY: a socket of the program's, borrowed for this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let exclusive = EventFlags::EXCLUSIVE.bits();
    if registration.events & exclusive == 0 {
        let _gone = epoll::modify(set, fd, EventData::new_u64(data), events);
    } else if epoll::delete(set, fd).is_ok() {
        let _gone = epoll::add(set, fd, EventData::new_u64(data), events);
    }
}
