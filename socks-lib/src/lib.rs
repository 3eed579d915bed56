//! `libsocks6.so`: the *Socks Lib* of RFC 3089 §2, loaded into an unmodified program by LD_PRELOAD.
//!
//! Each exported function turns C arguments into Rust values, asks `socks-client` or [`state::State`]
//! through the gate, and turns the verdict into a return value. No decision is taken here.
//!
//! | hooked | where |
//! |---|---|
//! | `getaddrinfo_a` | [`hooks::asynchronous`] |
//! | `getaddrinfo`, `gethostbyname`, `gethostbyname2`, their `_r` forms | [`hooks::forward`] |
//! | `getnameinfo`, `gethostbyaddr`, `gethostbyaddr_r` | [`hooks::reverse`] |
//! | `res_query` and its family | [`hooks::dns`] |
//! | `rcmd`, `rexec`, `ruserok` and their relatives, `gethostid` | [`hooks::remote`] |
//! | `connect`, `__connect`, `shutdown` | [`hooks::connect`] |
//! | `accept`, `accept4` | [`hooks::passive`] |
//! | `sendto`, `sendmsg`, `sendmmsg` | [`hooks::datagram`] |
//! | `getpeername`, `getsockname`, `getsockopt` | [`hooks::names`] |
//! | `poll`, `ppoll`, `select`, `pselect` and their `_chk` forms | [`hooks::poll`], [`hooks::select`] |
//! | `epoll_ctl`, `epoll_wait`, `epoll_pwait`, `epoll_pwait2` | [`hooks::epoll`] |
//! | `read`, `write`, `send`, `recv` and their relatives, `ioctl` | [`hooks::stream`] |
//! | `recvfrom`, `recvmsg`, `recvmmsg` | [`hooks::question`] |
//! | `close`, `__close`, `dup`, `dup2`, `__dup2`, `dup3`, `fcntl`, `fcntl64`, `__fcntl` | [`hooks::descriptors`] |
//! | `syscall` | [`hooks::bare`] |
//! | `execve` and its relatives, `posix_spawn`, `posix_spawnp`, `system`, `popen`, `wordexp` | [`hooks::process`] |
//! | `execl`, `execlp`, `execle` | [`hooks::listed`] |
//!
//! docs/hooks.md says of every function of libc why it is hooked, or why not.
#![expect(
    unsafe_code,
    reason = "a C library: every export and most of libc's interface is unsafe"
)]

mod ask;
mod begin;
mod dial;
mod enter;
mod handshake;
mod hooks;
mod hosts_file;
mod kept;
mod log;
mod looped;
mod nested;
mod next;
#[cfg(feature = "panic-on-purpose")]
mod on_purpose;
mod pending;
mod questions;
mod start;
mod state;
mod sys;
mod wait;
