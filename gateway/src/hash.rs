//! Argon2id hashes of passwords, as `$argon2id$v=19$m=…,t=…,p=…$salt$hash`: the form that every other program writes
//! them in, too. When one is computed, and for whom, is [`Logins`]' to say.
//!
//! [`Logins`]: crate::logins::Logins

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a hash begins with.
const PREFIX: &str = "$argon2id$";

/// What other programs write for a password. Taken for a plain one, the hash itself would be what lets its reader in.
const FOREIGN: [&str; 11] = [
    "$argon2", "$2a$", "$2b$", "$2x$", "$2y$", "$1$", "$5$", "$6$", "$y$", "$apr1$", "{SHA}",
];

/// A line of a file must not be able to take the host's memory, or a processor for long.
const MOST_MEMORY_KIB: u32 = 256 << 10;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 16;

/// Octets of the salt of a new hash (RFC 9106 §3.1).
const SALT_OCTETS: usize = 16;

/// What a password is compared with.
#[derive(Clone)]
pub(crate) struct Hash {
    argon2: Argon2<'static>,
    salt: Salt,
    output: Output,
}

/// There was no memory to compute it in, or the kernel had no random octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory for the hash of a password")]
pub(crate) struct Unhashed;

impl Hash {
    /// `None` if it is none, or takes more than a gateway gives.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let hash = PasswordHash::new(str::from_utf8(text).ok()?).ok()?;
        // The PHC format: each parameter once. Which of two holds would be up to whoever reads it.
        let names = || hash.params.iter().map(|(name, _)| name);
        if names().any(|name| names().filter(|other| *other == name).count() > 1) {
            return None;
        }
        let params = Params::try_from(&hash).ok()?;
        let is_affordable = params.m_cost() <= MOST_MEMORY_KIB
            && params.t_cost() <= MOST_PASSES
            && params.p_cost() <= MOST_LANES;
        // RFC 9106 §3.1 and the PHC format: one without a version is of the first.
        let version = Version::try_from(hash.version.unwrap_or(0x10)).ok()?;
        (hash.algorithm == ARGON2ID_IDENT && is_affordable).then_some(Self {
            argon2: Argon2::new(Algorithm::Argon2id, version, params),
            salt: hash.salt?,
            output: hash.hash?,
        })
    }

    /// Of a password, with a salt of its own: 19 MiB and two passes, as OWASP has it.
    pub(crate) fn of(password: &[u8]) -> Result<Self, Unhashed> {
        let mut octets = [0; SALT_OCTETS];
        let got = getrandom(&mut octets, GetRandomFlags::empty());
        if got != Ok(SALT_OCTETS) {
            return Err(Unhashed);
        }
        let salt = Salt::new(&octets).map_err(|_too_short| Unhashed)?;
        let argon2 = Argon2::default();
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        argon2
            .hash_password_into(password, &octets, &mut output)
            .map_err(|_memory| Unhashed)?;
        Ok(Self {
            argon2,
            salt,
            output: Output::new(&output).map_err(|_too_short| Unhashed)?,
        })
    }

    /// Whether it is this password's. Takes the time and the memory that its text says, whatever the answer.
    pub(crate) fn is_of(&self, password: &[u8]) -> Result<bool, Unhashed> {
        let mut output = Zeroizing::new([0; Output::MAX_LENGTH]);
        let output = output.get_mut(..self.output.len()).ok_or(Unhashed)?;
        self.argon2
            .hash_password_into(password, self.salt.as_ref(), output)
            .map_err(|_memory| Unhashed)?;
        Ok(self.output.as_bytes().ct_eq(output).into())
    }

    /// How much work it is, to find the most expensive of several.
    pub(crate) fn cost(&self) -> u64 {
        let params = self.argon2.params();
        u64::from(params.m_cost()).saturating_mul(params.t_cost().into())
    }

    /// What no other hash has.
    pub(crate) fn identity(&self) -> [&[u8]; 2] {
        [self.salt.as_ref(), self.output.as_bytes()]
    }

    /// As it stands in a file.
    pub(crate) fn text(&self) -> String {
        let params = ParamsString::try_from(self.argon2.params()).unwrap_or_default();
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params,
            salt: Some(self.salt),
            hash: Some(self.output),
        };
        hash.to_string()
    }
}

/// Whether it is meant to be a hash of ours.
pub(crate) fn is_hash(text: &[u8]) -> bool {
    text.starts_with(PREFIX.as_bytes())
}

/// Whether it is some other program's hash, and surely no password.
pub(crate) fn is_foreign(text: &[u8]) -> bool {
    !is_hash(text)
        && FOREIGN
            .iter()
            .any(|prefix| text.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of the reference implementation (src/test.c, version 0x13, Argon2id).
    const REFERENCE: &[u8] =
        b"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn another_programs_hash_is_understood() {
        let hash = Hash::parse(REFERENCE).unwrap();
        assert!(hash.is_of(b"password").unwrap());
        assert!(!hash.is_of(b"Password").unwrap());
    }

    #[test]
    fn a_new_hash_is_read_again_and_no_two_are_alike() {
        let [one, other] = [(); 2].map(|()| Hash::of(b"s3cret").unwrap().text());
        assert_ne!(one, other);
        let head = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(one.starts_with(head), "{one}");
        assert!(
            Hash::parse(one.as_bytes())
                .unwrap()
                .is_of(b"s3cret")
                .unwrap()
        );
    }

    #[test]
    fn one_that_would_take_the_host_is_refused() {
        let text = str::from_utf8(REFERENCE).unwrap();
        for (sane, greedy) in [("m=65536", "m=4194304"), ("t=2", "t=1000"), ("p=1", "p=64")] {
            assert!(
                Hash::parse(text.replace(sane, greedy).as_bytes()).is_none(),
                "{greedy}"
            );
        }
        let twice = text.replace("t=2", "t=1000,t=2");
        for broken in [
            "$argon2id$",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            &twice,
        ] {
            assert!(Hash::parse(broken.as_bytes()).is_none(), "{broken}");
        }
    }
}
