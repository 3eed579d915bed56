//! The three ends of an intercepted call.

use crate::Errno;

/// What becomes of an intercepted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<T> {
    /// Not ours: libc's own function gets the application's own arguments.
    Pass,
    /// The call ends here with this value.
    Done(T),
    /// The call ends here, with -1 and this errno.
    Fail(Errno),
}
