//! Look-ups that ask the gateway first (`resolve = "verify"`): a shell round libc's poll, as connect()'s is.

use std::ffi::{c_int, c_short, c_void};
use std::net::IpAddr;

use fake_dns::Name;
use libc::pollfd;
use socks_client::{Eai, Question, is_host_name};
use socks_wire::Address;

use crate::ask::{Asking, Said, Turn};
use crate::enter::enter;
use crate::next;
use crate::state::{Answer, NameOf};
use crate::sys::io::Own;
use crate::sys::{cancel, errno};

/// Answers a look-up by name. A name that the gateway does not find gets no fake address.
pub(super) fn answer(question: &Question<'_>, broken: Answer) -> Answer {
    let ask = |question: &Question<'_>| {
        enter(Some(Answer::Pass), Some(broken), |state| {
            state.answer(question)
        })
    };
    if let Some(answer) = ask(question) {
        return answer;
    }
    let said = match Asking::address_of(question.name) {
        Some(mut asking) => asked(&mut asking),
        None => Said::Fail(Eai::NONAME),
    };
    let verified = Question {
        is_verified: true,
        ..*question
    };
    match said {
        Said::Found | Said::Nothing => ask(&verified).unwrap_or(broken),
        Said::Fail(eai) => Answer::Fail(eai),
    }
}

/// Answers a look-up by address.
pub(super) fn name_of(address: IpAddr) -> NameOf {
    let broken = NameOf::Fail(Eai::FAIL);
    let planned = enter(Some(NameOf::Pass), Some(broken), |state| {
        state.name_of(address)
    });
    if let Some(name) = planned {
        return name;
    }
    let mut asking = Asking::name_of(address);
    match asked(&mut asking) {
        Said::Found => {
            let name = match asking.found() {
                Some(Address::Fqdn(name)) => Name::new(name.as_bytes()).ok(),
                Some(Address::Ip(_)) | None => None,
            };
            name.filter(|name| is_host_name(name.as_bytes()))
                .map_or(NameOf::Unknown, NameOf::Name)
        }
        Said::Nothing | Said::Fail(Eai::NONAME | Eai::NODATA) => NameOf::Unknown,
        Said::Fail(eai) => NameOf::Fail(eai),
    }
}

/// Brings a question to its end. Nothing in here has a destructor while libc's poll runs: pthread_cancel
/// unwinds through.
fn asked(asking: &mut Asking) -> Said {
    let before = errno::get();
    let broken = Turn::Over(Said::Fail(Eai::FAIL));
    loop {
        match enter(broken, broken, |state| state.ask_turn(asking)) {
            Turn::Over(said) => {
                errno::set(before);
                return said;
            }
            Turn::Wait(socket, events, milliseconds) => wait(socket, events, milliseconds),
        }
    }
}

/// Until there is something to do, its time is over, or a signal came: the next turn finds out.
fn wait(socket: Own, events: c_short, milliseconds: c_int) {
    let Some(fd) = socket.fd() else { return };
    let mut waited = pollfd {
        fd,
        events,
        revents: 0,
    };
    cancel::cleaning_up(close, (&raw const socket).cast_mut().cast(), || {
        // SAFETY: one pollfd.
        unsafe { next::POLL.get()(&raw mut waited, 1, milliseconds) }
    });
}

/// # Safety
/// `socket` is the one in [`wait`]'s frame, which has not been unwound yet.
unsafe extern "C" fn close(socket: *mut c_void) {
    // SAFETY: our caller's contract.
    unsafe { socket.cast::<Own>().read() }.close();
}
