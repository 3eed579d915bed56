//! The exported functions, one file for each family: arguments in, the gate, the verdict out.

mod ask;
pub(crate) mod asynchronous;
pub(crate) mod bare;
pub(crate) mod connect;
pub(crate) mod datagram;
pub(crate) mod descriptors;
pub(crate) mod dns;
pub(crate) mod epoll;
pub(crate) mod forward;
pub(crate) mod listed;
pub(crate) mod names;
pub(crate) mod passive;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod question;
pub(crate) mod remote;
pub(crate) mod reverse;
pub(crate) mod select;
pub(crate) mod stream;
