//! The resolver(3) functions, which send whatever they are given to a name server: they fail closed,
//! as on a host whose name servers do not answer.

use std::ffi::{c_char, c_int, c_void};

use socks_client::{Errno, HostErrno};

use crate::sys::errno;

/// -1, with h_errno and errno as libc sets them when no name server can be reached.
fn refused() -> c_int {
    errno::set_host(HostErrno::TRY_AGAIN);
    errno::fail(Errno(libc::ECONNREFUSED))
}

macro_rules! refuse {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// Its arguments are not looked at.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($(_: $type),*) -> c_int {
            refused()
        })*
    };
}

refuse! {
    /// `res_query(3)`
    fn res_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_query(3)` by its older name.
    fn __res_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_search(3)`
    fn res_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_search(3)` by its older name.
    fn __res_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_querydomain(3)`
    fn res_querydomain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_querydomain(3)` by its older name.
    fn __res_querydomain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_send(3)`
    fn res_send(query: *const u8, query_len: c_int, answer: *mut u8, len: c_int);
    /// `res_send(3)` by its older name.
    fn __res_send(query: *const u8, query_len: c_int, answer: *mut u8, len: c_int);
    /// `res_nquery(3)`
    fn res_nquery(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nquery(3)` by its older name.
    fn __res_nquery(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nsearch(3)`
    fn res_nsearch(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nsearch(3)` by its older name.
    fn __res_nsearch(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nquerydomain(3)`
    fn res_nquerydomain(state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nquerydomain(3)` by its older name.
    fn __res_nquerydomain(state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, len: c_int);
    /// `res_nsend(3)`
    fn res_nsend(state: *mut c_void, query: *const u8, query_len: c_int, answer: *mut u8, len: c_int);
    /// `res_nsend(3)` by its older name.
    fn __res_nsend(state: *mut c_void, query: *const u8, query_len: c_int, answer: *mut u8, len: c_int);
}
