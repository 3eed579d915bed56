//! The one place where an errno, an `EAI_` code or an `h_errno` is chosen (DESIGN §2).
//!
//! Never one that means something else to a retry loop (EINTR, EAGAIN, EINPROGRESS), never a
//! catch-all EINVAL.

use fake_dns::TableError;
use socks_wire::{HandshakeError, Rep};

/// A value of `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// A return value of `getaddrinfo(3)` and `getnameinfo(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eai(pub i32);

/// A value of `h_errno`, for the `gethostby…` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostErrno(pub i32);

impl Errno {
    /// The gateway cannot be reached, is silent, or talks nonsense: as if the network to the
    /// destination were gone. The log line names the gateway, so that nobody blames the destination.
    pub const GATEWAY: Self = Self(libc::ENETUNREACH);
    /// A fake address without a row: the name behind it is not known here.
    pub const NO_ROW: Self = Self(libc::EHOSTUNREACH);
    /// No gateway is configured, or the configuration is bad: nothing non-local is reachable.
    pub const NO_GATEWAY: Self = Self(libc::ENETUNREACH);
    /// What is neither relayed nor direct (datagrams, raw sockets) fails closed with this.
    pub const FAIL_CLOSED: Self = Self(libc::ENETUNREACH);
    /// A rule rejects the destination: as the gateway's own rules would say it (REP 02).
    pub const REJECTED: Self = Self(libc::EACCES);
    /// A fake address whose name is ruled direct: its real address is not known here.
    pub const NO_ADDRESS: Self = Self(libc::EHOSTUNREACH);
    /// A panic inside the shim, contained by the gate.
    pub const BROKEN: Self = Self(libc::EIO);
    /// No name server has an answer, as after the last of them has been waited for.
    pub const NO_ANSWER: Self = Self(libc::ETIMEDOUT);
    /// A name server ends a connection on which it finds no question.
    pub const HUNG_UP: Self = Self(libc::ECONNRESET);
    /// The connection stands already, as connect(2) says it of a connected socket.
    pub const CONNECTED: Self = Self(libc::EISCONN);
    /// `SO_SNDTIMEO` ran out in the first connect() of a socket, as connect(2) reports it.
    pub const STILL_CONNECTING: Self = Self(libc::EINPROGRESS);
    /// `SO_SNDTIMEO` ran out in a further connect(), or another thread is connecting this socket.
    pub const ALREADY: Self = Self(libc::EALREADY);
    /// The connection failed before, and its error has been asked for (inet_stream_connect).
    pub const ABORTED: Self = Self(libc::ECONNABORTED);
    /// A null pointer where the program says that there is something to send.
    pub const BAD_ADDRESS: Self = Self(libc::EFAULT);
    /// Another thread has closed the descriptor meanwhile.
    pub const CLOSED: Self = Self(libc::EBADF);
    /// A signal came in and its handler is not under SA_RESTART.
    pub const INTERRUPTED: Self = Self(libc::EINTR);
    /// Above the last descriptor that the shim keeps state for, connect fails closed.
    pub const NO_STATE: Self = Self(libc::ENETUNREACH);

    /// What a failed handshake looks like to the application: the errno that a direct connection
    /// to the destination would have given, where the reply tells (RFC 1928 §6).
    #[must_use]
    pub fn of_handshake(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Reply(rep) => Self::of_rep(rep),
            // RFC 1928 §3 and RFC 1929 §2: we may not use this gateway.
            HandshakeError::NoAcceptableMethod | HandshakeError::WrongPassword(_) => {
                Self(libc::EACCES)
            }
            _ => Self::GATEWAY,
        }
    }

    /// RFC 1928 §6, each REP as connect(2) would have said it.
    #[must_use]
    pub const fn of_rep(rep: Rep) -> Self {
        Self(match rep {
            Rep::CONNECTION_NOT_ALLOWED_BY_RULESET => libc::EACCES,
            Rep::NETWORK_UNREACHABLE => libc::ENETUNREACH,
            Rep::HOST_UNREACHABLE => libc::EHOSTUNREACH,
            Rep::CONNECTION_REFUSED => libc::ECONNREFUSED,
            // Our gateway's dial timed out; "TTL expired" of other servers means the same.
            Rep::TTL_EXPIRED => libc::ETIMEDOUT,
            Rep::COMMAND_NOT_SUPPORTED => libc::EOPNOTSUPP,
            // The gateway cannot express the destination's family: no route to it from there.
            Rep::ADDRESS_TYPE_NOT_SUPPORTED => libc::ENETUNREACH,
            _ => libc::ECONNABORTED,
        })
    }

    /// The errno of the TCP connect to the gateway, in the application's terms: what the network
    /// says of the gateway becomes [`Errno::GATEWAY`]; what concerns the application's own socket
    /// or call (EBADF, EINTR, EINPROGRESS, EADDRNOTAVAIL…) stays as it is.
    #[must_use]
    pub const fn of_gateway_connect(self) -> Self {
        // No port is left: worth a try with another address, and in the end the application's to know.
        if self.is_of_gateway() && self.0 != libc::EADDRNOTAVAIL {
            Self::GATEWAY
        } else {
            self
        }
    }

    /// Whether this errno of the TCP connect speaks of the gateway, so that the gateway's next
    /// address is worth a try.
    #[must_use]
    pub const fn is_of_gateway(self) -> bool {
        matches!(
            self.0,
            libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ENONET
                | libc::EACCES
                | libc::EPERM
                | libc::EPROTO
                | libc::EPIPE
                | libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
        )
    }

    /// The name of this errno as errno(3) has it, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            libc::EACCES => "EACCES",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::EALREADY => "EALREADY",
            libc::EBADF => "EBADF",
            libc::ECONNABORTED => "ECONNABORTED",
            libc::ECONNREFUSED => "ECONNREFUSED",
            libc::ECONNRESET => "ECONNRESET",
            libc::EHOSTDOWN => "EHOSTDOWN",
            libc::ENETDOWN => "ENETDOWN",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            libc::EPERM => "EPERM",
            libc::EPIPE => "EPIPE",
            libc::EHOSTUNREACH => "EHOSTUNREACH",
            libc::EINPROGRESS => "EINPROGRESS",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::EISCONN => "EISCONN",
            libc::EMFILE => "EMFILE",
            libc::ENETUNREACH => "ENETUNREACH",
            libc::ENOTSOCK => "ENOTSOCK",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::ETIMEDOUT => "ETIMEDOUT",
            _ => "errno",
        }
    }
}

impl Eai {
    /// The configuration is bad: no name can be looked up, and asking again does not help.
    pub const FAIL: Self = Self(libc::EAI_FAIL);
    /// There is no such name.
    pub const NONAME: Self = Self(libc::EAI_NONAME);
    /// There is such a name, and it has no address.
    pub const NODATA: Self = Self(libc::EAI_NODATA);
    /// It cannot be known now: no gateway can be reached, or its name server does not answer.
    pub const AGAIN: Self = Self(libc::EAI_AGAIN);
    /// The result does not fit the caller's buffer.
    pub const OVERFLOW: Self = Self(libc::EAI_OVERFLOW);

    /// What a gateway's refusal of RESOLVE or RESOLVE_PTR says of the name or address; `None` if nothing: then it
    /// is as if the gateway had not been asked, and connect() finds out.
    #[must_use]
    pub const fn of_reply(rep: Rep) -> Option<Self> {
        match rep {
            Rep::HOST_UNREACHABLE => Some(Self::NONAME),
            // Our gateway's word for a name without an address.
            Rep::ADDRESS_TYPE_NOT_SUPPORTED => Some(Self::NODATA),
            Rep::CONNECTION_NOT_ALLOWED_BY_RULESET | Rep::COMMAND_NOT_SUPPORTED => None,
            _ => Some(Self::AGAIN),
        }
    }

    /// As getaddrinfo(3) has it, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            libc::EAI_AGAIN => "EAI_AGAIN",
            libc::EAI_FAIL => "EAI_FAIL",
            libc::EAI_NODATA => "EAI_NODATA",
            libc::EAI_NONAME => "EAI_NONAME",
            _ => "EAI",
        }
    }

    /// A name that could not be given a fake address.
    #[must_use]
    pub const fn of_table(error: &TableError) -> Self {
        match error {
            TableError::Name => Self(libc::EAI_NONAME),
            // The table or its file system is full; a larger range or a fresh table mends it.
            _ => Self(libc::EAI_AGAIN),
        }
    }
}

impl HostErrno {
    /// netdb.h: authoritative answer, host not found.
    pub const HOST_NOT_FOUND: Self = Self(1);
    /// netdb.h: a temporary failure; libc's counterpart of EAI_AGAIN.
    pub const TRY_AGAIN: Self = Self(2);
    /// netdb.h: a failure that asking again does not mend; libc's counterpart of EAI_FAIL.
    pub const NO_RECOVERY: Self = Self(3);
    /// netdb.h: there is such a name, without what was asked for; libc's counterpart of EAI_NODATA.
    pub const NO_DATA: Self = Self(4);
    /// netdb.h: see errno.
    pub const NETDB_INTERNAL: Self = Self(-1);

    /// What `res_query(3)` says of an answer with this RCODE and so many records; `None` if it is well.
    #[must_use]
    pub const fn of_answer(rcode: u8, answers: u16) -> Option<Self> {
        match (rcode, answers) {
            (0, 1..) => None,
            (0, 0) => Some(Self::NO_DATA),
            (2, _) => Some(Self::TRY_AGAIN),
            (3, _) => Some(Self::HOST_NOT_FOUND),
            _ => Some(Self::NO_RECOVERY),
        }
    }

    /// The same failure as `eai`, for the `gethostby…` family.
    #[must_use]
    pub const fn of_eai(eai: Eai) -> Self {
        match eai.0 {
            libc::EAI_NONAME => Self::HOST_NOT_FOUND,
            libc::EAI_NODATA => Self::NO_DATA,
            libc::EAI_AGAIN => Self::TRY_AGAIN,
            _ => Self::NO_RECOVERY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN §2, "errno:".
    #[test]
    fn every_rep_has_its_errno() {
        let rows = [
            (1, libc::ECONNABORTED),
            (2, libc::EACCES),
            (3, libc::ENETUNREACH),
            (4, libc::EHOSTUNREACH),
            (5, libc::ECONNREFUSED),
            (6, libc::ETIMEDOUT),
            (7, libc::EOPNOTSUPP),
            (8, libc::ENETUNREACH),
            (9, libc::ECONNABORTED),
            (255, libc::ECONNABORTED),
        ];
        for (rep, errno) in rows {
            assert_eq!(
                Errno::of_handshake(HandshakeError::Reply(Rep(rep))),
                Errno(errno),
                "{rep}"
            );
        }
    }

    /// docs/configuration.md, "Verified names".
    #[test]
    fn every_refusal_of_a_question_has_its_eai() {
        for rep in 1..=255 {
            let eai = match rep {
                2 | 7 => None,
                4 => Some(Eai::NONAME),
                8 => Some(Eai::NODATA),
                _ => Some(Eai::AGAIN),
            };
            assert_eq!(Eai::of_reply(Rep(rep)), eai, "{rep}");
        }
        assert_eq!(HostErrno::of_eai(Eai::NODATA), HostErrno::NO_DATA);
    }

    /// A retry loop must not go round because of us.
    #[test]
    fn no_rep_gives_an_errno_that_means_try_again() {
        for rep in 0..=255 {
            let errno = Errno::of_rep(Rep(rep)).0;
            assert!(!matches!(
                errno,
                libc::EINTR | libc::EAGAIN | libc::EINPROGRESS | libc::EINVAL
            ));
        }
    }

    #[test]
    fn the_applications_own_mistakes_stay_its_own() {
        for errno in [
            libc::EBADF,
            libc::EINTR,
            libc::EINPROGRESS,
            libc::EISCONN,
            libc::EALREADY,
        ] {
            assert_eq!(Errno(errno).of_gateway_connect(), Errno(errno));
        }
        for errno in [
            libc::ECONNREFUSED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::EPERM,
        ] {
            assert_eq!(Errno(errno).of_gateway_connect(), Errno(libc::ENETUNREACH));
        }
    }
}
