//! Handshakes of sockets that do not block, driven by the program's own waits: no helper thread, no
//! helper process (DESIGN §2, "A non-blocking connect() never blocks").
//!
//! Whoever looks at such a socket, by poll, select, epoll_wait, SO_ERROR, a second connect() or an early
//! read or write, takes its handshake as far as it goes. In an epoll set the socket stands under what the
//! handshake needs, with the address of its row as data: a *marker*; when the handshake is over, one
//! EPOLL_CTL_MOD puts the program's own events and data back, which re-arms edge-triggered sets as well.

use std::ffi::{c_int, c_short};
use std::sync::atomic::AtomicU32;

use libc::{POLLIN, POLLOUT, epoll_event};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::BorrowedFd;
use socks_client::{Errno, Handshake, LogLevel, Pending, Registration, Row, Stage, View};

use crate::dial::{Call, Driven, Event, Locked};
use crate::looped::LOOPED;
use crate::state::State;
use crate::sys::{io, swap};

/// How many descriptors the reads and writes of this process have to do something for: one load of it is all that they cost
/// where there are none.
pub(crate) static WATCHED: AtomicU32 = AtomicU32::new(0);

/// The descriptors of this process whose handshakes are under way. One load of it is all that a wait, a
/// read or a write of a program with nothing pending costs.
pub(crate) static PENDING: Pending = Pending::counted_in(&WATCHED);

/// The descriptors whose handshakes have failed while nobody was in connect(), and of which nobody has
/// asked the errno yet.
pub(crate) static FAILED: Pending = Pending::counted_in(&WATCHED);

/// The descriptors that were a part of a dup(2), for all that is known: what connects later may have another number.
pub(crate) static DUPLICATED: Pending = Pending::new();

/// The marker without a handshake that a wait has last seen, and how often.
#[derive(Debug, Default)]
pub(crate) struct Stray {
    fd: c_int,
    times: u32,
}

/// A marker of the same descriptor that comes so often in one wait, and as often again after whoever was
/// ending its handshake is done, belongs to none.
const STRAY_AFTER: u32 = 500;

impl Stray {
    fn is_one(&mut self, fd: c_int, settled: impl FnOnce()) -> bool {
        self.times = if self.fd == fd {
            self.times.saturating_add(1)
        } else {
            0
        };
        self.fd = fd;
        if self.times == STRAY_AFTER {
            settled();
        }
        self.times > STRAY_AFTER.saturating_mul(2)
    }
}

/// What a descriptor's handshake needs, if it has one under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: the descriptor is the kernel's.
    Nothing,
    /// This of poll, for at most so many milliseconds.
    Wait(c_short, c_int),
}

/// What a wait does after a panic: a socket in mid-handshake is left alone, as one that goes on connecting, and looked at
/// again a little later.
pub(crate) fn undriven(fd: c_int) -> Needs {
    if PENDING.has(fd) {
        Needs::Wait(0, 100)
    } else {
        Needs::Nothing
    }
}

impl State {
    /// Takes the handshake of `fd` as far as it goes. Whoever holds the handshake's lock also keeps the
    /// epoll sets: no two threads disagree on what is in them.
    pub(crate) fn drive_pending(&self, fd: c_int) -> Needs {
        if !PENDING.has(fd) {
            return Needs::Nothing;
        }
        // A vfork child leaves its parent's handshakes alone.
        let (Some(row), Some(pid)) = (self.sockets.row(fd), self.process.own()) else {
            return Needs::Nothing;
        };
        let Some((cookie, view)) = known(fd, row) else {
            // Closed behind our back; the number may be another socket's already.
            PENDING.remove(fd);
            return Needs::Nothing;
        };
        let Some(handshake) = self.handshakes.get(view.handshake) else {
            return Needs::Nothing;
        };
        let Some(_locked) = Locked::take(handshake, pid) else {
            return Needs::Wait(0, 1);
        };
        // Whoever ended it while this thread waited for the lock has settled it, and the number may be
        // another socket's by now.
        if !PENDING.has(fd) {
            handshake.unlock_own(pid);
            return Needs::Nothing;
        }
        let standing = handshake
            .standing(cookie)
            .filter(|standing| standing.stage.is_under_way());
        let mut call =
            standing.and_then(|standing| self.call(fd, cookie, row, &view, handshake, &standing));
        match &mut call {
            Some(call) => {
                call.pend();
                let needs = match self.drive(call, Event::Woken) {
                    Driven::Wants(events, milliseconds) => {
                        self.mark(row, fd, events);
                        Needs::Wait(events, milliseconds)
                    }
                    Driven::Over(_) => {
                        self.settle_all(call.cookie);
                        Needs::Nothing
                    }
                };
                // The call's, which a swap has changed, and once: the lock may be another thread's by then.
                call.handshake.unlock(pid, call.cookie);
                needs
            }
            // Another thread, or the socket's other number, has ended it.
            None => {
                self.settle(fd, cookie, row);
                handshake.unlock_own(pid);
                Needs::Nothing
            }
        }
    }

    /// Numbers that the socket was given before its connect() are in mid-handshake as well.
    pub(crate) fn pend_duplicates(&self, fd: c_int, cookie: u64) {
        self.tell_duplicates(fd, cookie, &PENDING);
    }

    /// What is known of `fd` is from now on known of the numbers that its socket was given before; they are in `set`, as
    /// it is.
    pub(crate) fn tell_duplicates(&self, fd: c_int, cookie: u64, set: &Pending) {
        if !DUPLICATED.has(fd) {
            return;
        }
        let mut is_alone = true;
        swap::for_each_duplicate(cookie, |other| {
            if other != fd {
                is_alone = false;
                self.sockets.named_alike(fd, other);
                let _room = !set.has(fd) || set.insert(other);
            }
        });
        if is_alone {
            DUPLICATED.remove(fd);
        }
    }

    /// connect() ends and the handshake does not: from now on the program's waits drive it.
    pub(crate) fn pend(&self, call: &Call) {
        if !PENDING.has(call.fd) && PENDING.insert(call.fd) {
            let events = if call.stage() == Some(Stage::Connecting) {
                POLLOUT
            } else {
                POLLIN
            };
            self.mark(call.row, call.fd, events);
            self.pend_duplicates(call.fd, call.cookie);
        }
    }

    /// The handshakes that this thread has begun, and so may be waiting for without looking at them. Those of another
    /// thread are left to it: it may be in the kernel's poll for an answer, and who takes that away would not wake it.
    pub(crate) fn own_pending(&self) -> impl Iterator<Item = c_int> {
        let thread = io::thread();
        PENDING
            .iter()
            .filter(move |&fd| self.is_begun_by(thread, fd))
    }

    pub(crate) fn is_begun_by(&self, thread: u64, fd: c_int) -> bool {
        let row = self.sockets.row(fd);
        row.is_some_and(|row| row.is_begun_by(thread))
    }

    /// Those that are in an epoll set, whose end every waiter hears of.
    pub(crate) fn registered_pending(&self) -> impl Iterator<Item = c_int> {
        PENDING.iter().filter(|&fd| {
            let row = self.sockets.row(fd);
            row.is_some_and(|row| row.registrations().next().is_some())
        })
    }

    /// Takes each as far as it goes, and notices those whose time is over.
    pub(crate) fn drive_each(&self, some: impl Iterator<Item = c_int>) {
        for fd in some {
            self.drive_pending(fd);
        }
    }

    /// Puts the socket into its epoll sets under what the handshake needs.
    pub(crate) fn mark(&self, row: &'static Row, fd: c_int, events: c_short) {
        let events = EventFlags::from_bits_retain(u32::from(events.unsigned_abs()));
        for registration in row.registrations().filter(|r| !r.is_spent()) {
            modify(fd, &registration, events, marker(row));
        }
    }

    /// The handshake is over, or forgotten: the program's own events and data are back in the sets, once,
    /// since this re-arms them. A failure is kept apart until its errno has been asked for.
    pub(crate) fn settle(&self, fd: c_int, cookie: u64, row: &'static Row) {
        // In this order: a reused number's row is written before it is pending.
        if !PENDING.has(fd) || row.view(cookie).is_none() || !PENDING.remove(fd) {
            return;
        }
        if self.failure(fd).is_some() {
            let _always_room = FAILED.insert(fd);
        }
        for registration in row.registrations() {
            restore(fd, &registration);
        }
    }

    /// The same for every number of the socket.
    fn settle_all(&self, cookie: u64) {
        for fd in PENDING.iter() {
            let row = self
                .sockets
                .row(fd)
                .filter(|row| row.view(cookie).is_some());
            row.inspect(|row| self.settle(fd, cookie, row));
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
        let (_, handshake) = self.failure(fd)?;
        let errno = handshake.take_failure()?;
        FAILED.remove(fd);
        Some(errno)
    }

    /// A connect() has ended a handshake.
    pub(crate) fn forget_handshake(&self, fd: c_int, row: &'static Row, handshake: &Handshake) {
        self.end(fd, handshake);
        if let Some(cookie) = io::cookie(fd) {
            self.settle(fd, cookie, row);
        }
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

    /// An event of `set` with a marker for data: ours to act upon. A marker of a handshake that is over was
    /// harvested before its end, and says nothing any more. One that comes again and again has lost its
    /// handshake: the program's own registration is put back, or, with the socket out of reach (closed,
    /// while a duplicate lives elsewhere), the event is the program's after all.
    pub(crate) fn on_marker(
        &self,
        set: c_int,
        fd: c_int,
        mut event: epoll_event,
        stray: &mut Stray,
    ) -> Option<epoll_event> {
        if self.drive_pending(fd) != Needs::Nothing {
            *stray = Stray::default();
            return None;
        }
        let row = self.sockets.row(fd)?;
        if !stray.is_one(fd, || self.wait_for_settling(fd, row)) {
            return None;
        }
        let registration = row.registrations().find(|r| r.set == set)?;
        if restore(fd, &registration) {
            return None;
        }
        event.events &= registration.events;
        event.u64 = registration.data;
        (event.events != 0).then_some(event)
    }

    /// Returns when a thread that is just ending the socket's handshake has put its registrations back.
    fn wait_for_settling(&self, fd: c_int, row: &'static Row) {
        let view = io::cookie(fd).and_then(|cookie| row.view(cookie));
        let handshake = view.and_then(|view| self.handshakes.get(view.handshake));
        if let (Some(handshake), Some(pid)) = (handshake, self.process.own())
            && let Some(_locked) = Locked::take(handshake, pid)
        {
            handshake.unlock_own(pid);
        }
    }

    /// epoll_ctl(2) ADD or MOD of a socket in mid-handshake: the program's events and data are kept, and
    /// the set is given what the handshake needs, under its lock, so that nobody ends it in between.
    /// `None` if it is not in mid-handshake: then libc's function does what it is asked.
    pub(crate) fn control_pending(
        &self,
        operation: c_int,
        fd: c_int,
        new: Registration,
    ) -> Option<Result<(), Errno>> {
        let Needs::Wait(events, _) = self.drive_pending(fd) else {
            return None;
        };
        let (row, pid) = (self.sockets.row(fd)?, self.process.own()?);
        let cookie = io::cookie(fd)?;
        let handshake = self.handshakes.get(row.view(cookie)?.handshake)?;
        let result = {
            let _locked = Locked::take(handshake, pid)?;
            let is_under_way = handshake
                .standing(cookie)
                .is_some_and(|standing| standing.stage.is_under_way());
            let before = is_under_way.then(|| self.register(fd, new)).flatten();
            let result = before.map(|before| {
                let events = EventFlags::from_bits_retain(u32::from(events.unsigned_abs()));
                let result = control(operation, fd, new.set, events, marker(row));
                if result.is_err() {
                    self.undo(new.set, fd, before);
                }
                result
            });
            handshake.unlock_own(pid);
            result
        };
        // It may have come to another need meanwhile.
        self.drive_pending(fd);
        result
    }

    /// Remembers a registration; gives the one before it, or `None` if there is no room: then the set is
    /// given no marker.
    pub(crate) fn register(&self, fd: c_int, new: Registration) -> Option<Option<Registration>> {
        let row = self.sockets.row(fd)?;
        // A vfork child's rows are its parent's.
        self.process.own()?;
        let before = row
            .registrations()
            .find(|registration| registration.set == new.set);
        if !row.registered(new) {
            forget_stale(row, fd);
            if !row.registered(new) {
                return None;
            }
        }
        Some(before)
    }

    pub(crate) fn unregister(&self, set: c_int, fd: c_int) {
        if let (Some(row), Some(_own)) = (self.sockets.row(fd), self.process.own()) {
            row.unregistered(set);
        }
    }

    /// epoll_ctl(2) has failed: what was, still is.
    pub(crate) fn undo(&self, set: c_int, fd: c_int, before: Option<Registration>) {
        self.unregister(set, fd);
        if let (Some(before), Some(row)) = (before, self.sockets.row(fd)) {
            let _had_room = row.registered(before);
        }
    }

    /// close(2): the kernel's sets are left as a plain program would leave them, since a duplicate may keep
    /// the socket in them; a handshake that no other number and no other process can want is over.
    pub(crate) fn closing(&self, fd: c_int) {
        if self.process.own().is_some() {
            FAILED.remove(fd);
            LOOPED.remove(fd);
        }
        if !PENDING.has(fd) || self.process.own().is_none() {
            return;
        }
        let known = io::cookie(fd).and_then(|cookie| Some((cookie, self.sockets.row(fd)?)));
        let Some((cookie, row)) = known else {
            PENDING.remove(fd);
            return;
        };
        self.settle(fd, cookie, row);
        PENDING.remove(fd);
        let has_other = PENDING.iter().any(|other| {
            self.sockets
                .row(other)
                .is_some_and(|row| row.view(cookie).is_some())
        });
        let handshake = row
            .view(cookie)
            .and_then(|view| self.handshakes.get(view.handshake));
        let standing =
            handshake.and_then(|handshake| Some((handshake, handshake.standing(cookie)?)));
        if let Some((handshake, standing)) = standing
            && !has_other
            && standing.began.0 > self.process.last_fork()
        {
            if let (true, Some(view)) = (standing.stage.is_under_way(), row.view(cookie)) {
                let asked = view.connection.asked;
                let took = io::now().0.saturating_sub(standing.began.0);
                let result = format_args!("closed by the program after {took} ms");
                self.log_route(LogLevel::Info, "connect", asked, result);
            }
            self.end(fd, handshake);
        }
    }
}

/// Puts the program's own events and data back; false if the set does not have the descriptor.
fn restore(fd: c_int, registration: &Registration) -> bool {
    if registration.is_spent() {
        return true; // it stands as the kernel left it
    }
    let events = EventFlags::from_bits_retain(registration.events);
    modify(fd, registration, events, registration.data)
}

/// The socket at `fd` and what its row says of it, both of one moment: the number may be closed, reused and
/// connected anew between two looks.
fn known(fd: c_int, row: &Row) -> Option<(u64, View)> {
    let mut cookie = io::cookie(fd)?;
    loop {
        if let Some(view) = row.view(cookie) {
            return Some((cookie, view));
        }
        let again = io::cookie(fd)?;
        if again == cookie {
            return None;
        }
        cookie = again;
    }
}

pub(crate) fn marker(row: &'static Row) -> u64 {
    u64::try_from((&raw const *row).addr()).unwrap_or(0)
}

/// EPOLL_CTL_MOD; EPOLLEXCLUSIVE allows none (epoll_ctl(2)), hence DEL and ADD. False if the set does not
/// have the descriptor any more.
fn modify(fd: c_int, registration: &Registration, events: EventFlags, data: u64) -> bool {
    // SAFETY: an epoll descriptor of the program's, borrowed for this call.
    let set = unsafe { BorrowedFd::borrow_raw(registration.set) };
    // SAFETY: a socket of the program's, borrowed for this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let data = EventData::new_u64(data);
    if registration.events & EventFlags::EXCLUSIVE.bits() == 0 {
        epoll::modify(set, fd, data, events).is_ok()
    } else {
        epoll::delete(set, fd).is_ok() && epoll::add(set, fd, data, events).is_ok()
    }
}

fn control(
    operation: c_int,
    fd: c_int,
    set: c_int,
    events: EventFlags,
    data: u64,
) -> Result<(), Errno> {
    if set < 0 {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: a number of the program's, borrowed for this call: if it is no descriptor, EBADF.
    let set = unsafe { BorrowedFd::borrow_raw(set) };
    // SAFETY: a socket of the program's, borrowed for this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let data = EventData::new_u64(data);
    let result = if operation == libc::EPOLL_CTL_ADD {
        epoll::add(set, fd, data, events)
    } else {
        epoll::modify(set, fd, data, events)
    };
    result.map_err(|error| Errno(error.raw_os_error()))
}

/// Room for one more set: registrations that the kernel does not have any more are forgotten.
fn forget_stale(row: &'static Row, fd: c_int) {
    for registration in row.registrations() {
        if !restore(fd, &registration) {
            row.unregistered(registration.set);
        }
    }
}
