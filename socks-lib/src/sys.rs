//! The fence: C structures in and out, and system calls. What is on the other side is plain Rust.

pub(crate) mod abi;
pub(crate) mod addrinfo;
pub(crate) mod cancel;
pub(crate) mod errno;
pub(crate) mod fdinfo;
pub(crate) mod file;
pub(crate) mod hostent;
pub(crate) mod idn;
pub(crate) mod io;
pub(crate) mod loopback;
pub(crate) mod memory;
pub(crate) mod signals;
pub(crate) mod swap;
