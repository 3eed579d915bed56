//! Who may authenticate: user names and passwords of RFC 1929, out of the operator's file.
//! A password stands there as its Argon2id hash or as it is. Whether one is looked at, and when, is [`Logins`]' to say.
//!
//! [`Logins`]: crate::logins::Logins

use std::collections::HashMap;
use std::fmt;

use socks_wire::Credentials;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hash::{self, Hash};

/// RFC 1929 §2: ULEN and PLEN are one octet, 1 to 255.
const MOST_OCTETS: usize = 255;

/// The users of a gateway; none means that no authentication is asked for.
#[derive(Clone, Default)]
pub struct Users {
    by_name: HashMap<Vec<u8>, Password>,
    /// The most expensive of their hashes: an unknown user costs as much as one.
    decoy: Option<Hash>,
}

#[derive(Clone)]
enum Password {
    Plain(Secret),
    Hashed(Hash),
}

/// Length and octets, padded: two of them compare in the same time whatever they hold.
type Secret = Zeroizing<[u8; MOST_OCTETS + 1]>;

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
    /// It begins as a hash does and is none, or takes more than a gateway gives.
    #[error("line {0}: not an $argon2id$ hash of at most 256 MiB, 16 passes and 16 lanes")]
    Hash(usize),
    /// Some other program's hash.
    #[error("line {0}: a hash of another kind than $argon2id$; socks6-gateway passwd makes one")]
    Foreign(usize),
}

impl Users {
    /// Lines of `user:password` or `user:$argon2id$…`; empty lines and lines that begin with `#` are passed over. A
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
            let (name, password) = split(line).ok_or(UsersError::Line(number))?;
            users.add(name, password, number)?;
        }
        if users.is_empty() {
            Err(UsersError::Empty)
        } else {
            Ok(users)
        }
    }

    /// One user, whose password, or its hash, is the first line of the file.
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
        self.by_name.is_empty()
    }

    /// How many passwords are not hashed.
    pub(crate) fn plain(&self) -> usize {
        let passwords = self.by_name.values();
        passwords
            .filter(|it| matches!(it, Password::Plain(_)))
            .count()
    }

    /// The hash to compute for this name, whether there is such a user or not. `None` if no password is hashed.
    pub(crate) fn hash(&self, name: &[u8]) -> Option<&Hash> {
        match self.by_name.get(name) {
            Some(Password::Hashed(hash)) => Some(hash),
            _ => self.decoy.as_ref(),
        }
    }

    /// Whether there is such a user, with a hashed password.
    pub(crate) fn has_hashed(&self, credentials: &Credentials<'_>) -> bool {
        let password = self.by_name.get(credentials.user());
        matches!(password, Some(Password::Hashed(_)))
    }

    /// Whether there is such a user, with this password, which is not hashed. Takes the same time whoever is asked about
    /// and however wrong the password is.
    pub(crate) fn has_plain(&self, credentials: &Credentials<'_>) -> bool {
        let Some(asked) = secret(credentials.password()) else {
            return false;
        };
        let nobodys = Secret::new([0; MOST_OCTETS + 1]);
        let known = match self.by_name.get(credentials.user()) {
            Some(Password::Plain(known)) => known,
            _ => &nobodys, // of no octet, as none that is asked about is
        };
        known.ct_eq(&*asked).into()
    }

    fn add(&mut self, name: &[u8], password: &[u8], line: usize) -> Result<(), UsersError> {
        if !is_name(name) {
            return Err(UsersError::Length(line));
        }
        if hash::is_foreign(password) {
            return Err(UsersError::Foreign(line));
        }
        let password = if hash::is_hash(password) {
            let hash = Hash::parse(password).ok_or(UsersError::Hash(line))?;
            if self.decoy.as_ref().is_none_or(|it| it.cost() < hash.cost()) {
                self.decoy = Some(hash.clone());
            }
            Password::Hashed(hash)
        } else {
            Password::Plain(secret(password).ok_or(UsersError::Length(line))?)
        };
        if self.by_name.insert(name.to_vec(), password).is_some() {
            return Err(UsersError::Twice(line));
        }
        Ok(())
    }
}

/// Says how many, never who or what.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.by_name.len())
    }
}

/// Name and password of a line.
pub(crate) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let (name, rest) = line.split_at_checked(colon)?;
    Some((name, rest.get(1..).unwrap_or_default()))
}

/// Whether it has the length of a user name, or of a password.
pub(crate) fn is_name(octets: &[u8]) -> bool {
    (1..=MOST_OCTETS).contains(&octets.len())
}

fn secret(octets: &[u8]) -> Option<Secret> {
    let len = u8::try_from(octets.len()).ok().filter(|len| *len > 0)?;
    let mut padded = Secret::new([0; MOST_OCTETS + 1]);
    for (room, octet) in padded.iter_mut().zip([len].iter().chain(octets)) {
        *room = *octet;
    }
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(users: &Users, user: &[u8], password: &[u8]) -> bool {
        users.has_plain(&Credentials::new(user, password).unwrap())
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
        let cases: [(&[u8], UsersError); 9] = [
            (b"", UsersError::Empty),
            (b"# nobody\n", UsersError::Empty),
            (b"alice:x\nbob", UsersError::Line(2)),
            (b"alice:", UsersError::Length(1)),
            (b"alice:x\nalice:y\n", UsersError::Twice(2)),
            (&long, UsersError::Length(1)),
            (b"alice:$argon2id$v=19$m=9,t=1", UsersError::Hash(1)),
            (b"alice:$2y$05$c4WoMPo3SXsafkva", UsersError::Foreign(1)),
            (
                b"alice:$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$aa",
                UsersError::Foreign(1),
            ),
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

    #[test]
    fn an_unknown_user_costs_the_most_expensive_hash() {
        let cheap =
            "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let file = format!("a:{cheap}\nb:{}\nc:plain", cheap.replace("m=64", "m=128"));
        let users = Users::from_lines(file.as_bytes()).unwrap();
        let cost = |name: &[u8]| users.hash(name).unwrap().cost();
        assert_eq!([cost(b"a"), cost(b"b")], [64, 128]);
        assert_eq!([cost(b"c"), cost(b"nobody")], [128, 128]);
        assert_eq!(users.plain(), 1);
    }
}
