//! Who may authenticate: user names and passwords of RFC 1929, out of the operator's file.
//! The comparison takes the same time whoever is asked about and however wrong the answer is.

use std::fmt;

use socks_wire::Credentials;
use subtle::{Choice, ConstantTimeEq};

/// RFC 1929 §2: ULEN and PLEN are one octet, 1 to 255.
const MOST_OCTETS: usize = 255;

/// The users of a gateway; none means that no authentication is asked for.
#[derive(Clone, Default)]
pub struct Users(Vec<User>);

#[derive(Clone)]
struct User {
    name: Secret,
    password: Secret,
}

/// Length and octets, padded: two of them compare in the same time whatever they hold.
type Secret = [u8; MOST_OCTETS + 1];

/// What is wrong with a password file. No variant carries the line, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// There is nobody in the file.
    #[error("no user in it")]
    Empty,
    /// A line of the file is not `user:password`.
    #[error("line {0} is not user:password")]
    Line(usize),
    /// A user name or a password has no octet, or more than 255 of them.
    #[error("line {0}: user and password take 1 to 255 octets each")]
    Length(usize),
    /// The same name stands on two lines.
    #[error("line {0}: this user is on an earlier line too")]
    Twice(usize),
}

impl Users {
    /// Lines of `user:password`; empty lines and lines that begin with `#` are passed over. A
    /// password may contain colons, a name not.
    ///
    /// # Errors
    /// The first line that is wrong, by number.
    pub fn from_lines(file: &[u8]) -> Result<Self, UsersError> {
        let mut users = Self::default();
        for (number, line) in (1..).zip(file.split(|octet| *octet == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let colon = line.iter().position(|octet| *octet == b':');
            let Some((name, rest)) = colon.and_then(|at| line.split_at_checked(at)) else {
                return Err(UsersError::Line(number));
            };
            users.add(name, rest.get(1..).unwrap_or_default(), number)?;
        }
        if users.is_empty() {
            Err(UsersError::Empty)
        } else {
            Ok(users)
        }
    }

    /// One user, whose password is the first line of the file.
    ///
    /// # Errors
    /// If name or password take no octet or more than 255.
    pub fn single(name: &[u8], file: &[u8]) -> Result<Self, UsersError> {
        let line = file
            .split(|octet| *octet == b'\n')
            .next()
            .unwrap_or_default();
        let mut users = Self::default();
        users.add(name, line.strip_suffix(b"\r").unwrap_or(line), 1)?;
        Ok(users)
    }

    /// Whether there is nobody, so that nobody has to authenticate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this user has this password.
    #[must_use]
    pub fn knows(&self, credentials: &Credentials<'_>) -> bool {
        let (Some(name), Some(password)) =
            (secret(credentials.user()), secret(credentials.password()))
        else {
            return false;
        };
        let known = self.0.iter().fold(Choice::from(0), |known, user| {
            known | (user.name.ct_eq(&name) & user.password.ct_eq(&password))
        });
        known.into()
    }

    fn add(&mut self, name: &[u8], password: &[u8], line: usize) -> Result<(), UsersError> {
        let (Some(name), Some(password)) = (secret(name), secret(password)) else {
            return Err(UsersError::Length(line));
        };
        if self.0.iter().any(|user| user.name == name) {
            return Err(UsersError::Twice(line));
        }
        self.0.push(User { name, password });
        Ok(())
    }
}

/// Says how many, never who or what.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

fn secret(octets: &[u8]) -> Option<Secret> {
    let len = u8::try_from(octets.len()).ok().filter(|len| *len > 0)?;
    let mut padded = [0; MOST_OCTETS + 1];
    for (room, octet) in padded.iter_mut().zip([len].iter().chain(octets)) {
        *room = *octet;
    }
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(users: &Users, user: &[u8], password: &[u8]) -> bool {
        users.knows(&Credentials::new(user, password).unwrap())
    }

    #[test]
    fn the_right_password_of_the_right_user_and_nothing_else() {
        let users = Users::from_lines(b"# staff\nalice:s3cret\n\nbob:with:colon\r\n").unwrap();
        assert!(knows(&users, b"alice", b"s3cret"));
        assert!(knows(&users, b"bob", b"with:colon"));
        for (user, password) in [
            ("alice", "with:colon"),
            ("alice", "s3cre"),
            ("alice", "s3crett"),
            ("alice", "s3cret\0"),
            ("alic", "es3cret"),
            ("Alice", "s3cret"),
            ("carol", "s3cret"),
        ] {
            assert!(
                !knows(&users, user.as_bytes(), password.as_bytes()),
                "{user}:{password}"
            );
        }
    }

    #[test]
    fn a_single_users_password_is_the_first_line() {
        let users = Users::single(b"alice", b"a pass:word \nsecond line\n").unwrap();
        assert!(knows(&users, b"alice", b"a pass:word "));
        assert!(!knows(&users, b"alice", b"a pass:word"));
    }

    #[test]
    fn wrong_files_are_told_by_line() {
        let long = [b"alice:".as_slice(), &[b'x'; 256]].concat();
        let cases: [(&[u8], UsersError); 6] = [
            (b"", UsersError::Empty),
            (b"# nobody\n", UsersError::Empty),
            (b"alice:x\nbob", UsersError::Line(2)),
            (b"alice:", UsersError::Length(1)),
            (b"alice:x\nalice:y\n", UsersError::Twice(2)),
            (&long, UsersError::Length(1)),
        ];
        for (file, error) in cases {
            assert_eq!(Users::from_lines(file).unwrap_err(), error);
        }
        assert_eq!(
            Users::single(b"alice", b"\n").unwrap_err(),
            UsersError::Length(1)
        );
    }

    #[test]
    fn nothing_secret_is_in_the_debug_text() {
        let users = Users::from_lines(b"alice:s3cret").unwrap();
        assert_eq!(format!("{users:?}"), "Users(1)");
    }
}
