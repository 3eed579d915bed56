//! What the kernel alone knows of the program's epoll sets: which one-shot registrations are spent, and whether there is
//! anything for the program in a set that is itself waited for.

use std::ffi::c_int;

use libc::{EPOLLONESHOT, POLLIN, epoll_event};
use socks_client::{Pending, Row};

use crate::state::State;
use crate::sys::{fdinfo, io};

/// The descriptors that have been epoll sets: one that stands in another set, in poll or in select is ready when a marker
/// is in it, and the program would find nothing there.
pub(crate) static SETS: Pending = Pending::new();

/// How often handshakes are taken further before a set with one of them is ready all the same: with a fast gateway the next
/// answer is there as soon as the question is sent, and more than this a handshake does not need.
const STEPS: u32 = 8;

/// epoll_ctl(2) was called on `set`.
pub(crate) fn is_set(set: c_int) {
    if !SETS.has(set) {
        let _room = SETS.insert(set);
    }
}

/// Whether the number has not become another descriptor's meanwhile, whose events are its own.
fn is_still_set(fd: c_int) -> bool {
    let is_set = SETS.has(fd) && fdinfo::is_set(fd);
    if !is_set {
        SETS.remove(fd);
    }
    is_set
}

impl State {
    /// Whether `fd`, which poll found ready, is an epoll set with nothing but markers.
    pub(crate) fn is_ready_in_vain(&self, fd: c_int) -> bool {
        if !is_still_set(fd) {
            return false;
        }
        self.drive_each(self.registered_pending());
        for _ in 0..STEPS {
            if !io::is_ready(fd, POLLIN) {
                return true;
            }
            // If that is a marker's doing, there is something to do for its handshake.
            if !self.drive_all_further() {
                break;
            }
        }
        false
    }

    /// Whether there was anything to do.
    fn drive_all_further(&self) -> bool {
        let standing = |fd| {
            let cookie = io::cookie(fd)?;
            let view = self.sockets.row(fd)?.view(cookie)?;
            self.handshakes.get(view.handshake)?.standing(cookie)
        };
        let mut has_moved = false;
        for fd in self.registered_pending() {
            let before = standing(fd);
            self.drive_pending(fd);
            has_moved |= before != standing(fd);
        }
        has_moved
    }

    /// The same of an event that `set` gives.
    pub(crate) fn is_event_in_vain(&self, set: c_int, event: &epoll_event) -> bool {
        let is_its = |inner: &c_int| {
            let row = self.sockets.row(*inner);
            row.is_some_and(|row| {
                row.registrations()
                    .any(|r| r.set == set && r.data == event.u64)
            })
        };
        let mut inner = SETS.iter().filter(is_its);
        inner.any(|inner| self.is_ready_in_vain(inner) && is_only(inner, set, event.u64))
    }
}

/// Whether `set` has `data` for this descriptor alone: a program that gives the same to several is told of each.
fn is_only(fd: c_int, set: c_int, data: u64) -> bool {
    let (mut own, mut others) = (0_u32, 0_u32);
    fdinfo::for_each_in(set, |found, registration| {
        if registration.data == data {
            let count = if found == fd { &mut own } else { &mut others };
            *count = count.saturating_add(1);
        }
    });
    own == 1 && others == 0
}

/// Notes which one-shot registrations have fired before connect(): the end of the handshake is not to arm them again.
#[inline(never)] // connect() may run in a handler, and needs this stack only here
pub(crate) fn note_spent(fd: c_int, row: &Row) {
    for registration in row.registrations() {
        if registration.events & EPOLLONESHOT.unsigned_abs() == 0 {
            continue;
        }
        fdinfo::for_each_in(registration.set, |found, now| {
            if found == fd && now.data == registration.data && now.is_spent() {
                let _has_its_place = row.registered(now);
            }
        });
    }
}
