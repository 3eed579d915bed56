//! Which addresses are fake, in both families, and which slot of the table each one stands for.
//! Pure arithmetic: what is in a slot is the table's business.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// The fake addresses in use: two ranges over one set of slots.
///
/// A slot's address is its index in the low bits of either range, so a name has the same slot in both families and
/// neither direction needs a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    ranges: Ranges,
    slots: u32,
}

/// Address family of a fake address or of the application's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6
    V6,
}

/// The two ranges that fake addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// By default 198.18.0.0/15, set aside for benchmarks of network devices (RFC 2544).
    pub v4: Ipv4Range,
    /// By default 100::/64, whose packets are discarded (RFC 6666).
    pub v6: Ipv6Range,
}

/// A block of IPv4 addresses that no real host has. Parsed from `198.18.0.0/15`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Range {
    base: Ipv4Addr,
    prefix: u8,
}

/// A block of IPv6 addresses that no real host has. Parsed from `100::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Range {
    base: Ipv6Addr,
    prefix: u8,
}

/// A larger range makes no larger table: at this size the file is 560 MB, sparse.
pub const MAX_SLOTS: u32 = 1 << 20;

impl Pool {
    /// As many slots as the smaller range has addresses, at most [`MAX_SLOTS`].
    pub fn new(ranges: &Ranges) -> Self {
        let bits = ranges.v4.host_bits().min(ranges.v6.host_bits());
        let slots = 1u32.checked_shl(bits).unwrap_or(MAX_SLOTS).min(MAX_SLOTS);
        Self {
            ranges: *ranges,
            slots,
        }
    }

    /// Whether this address is in one of the ranges, so that no packet may ever be sent to it. A v4-mapped v6 address
    /// counts as v4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.ranges.v4.contains(v4),
            IpAddr::V6(v6) => self.ranges.v6.contains(v6),
        }
    }

    /// The slot that an address stands for; none if it is not fake, or lies past the last slot of a range that is
    /// larger than the table.
    pub fn slot_of(&self, address: IpAddr) -> Option<u32> {
        let index = match address.to_canonical() {
            IpAddr::V4(v4) => u128::from(self.ranges.v4.offset(v4)?),
            IpAddr::V6(v6) => self.ranges.v6.offset(v6)?,
        };
        u32::try_from(index).ok().filter(|slot| *slot < self.slots)
    }

    /// The fake address of a slot. High bits of `slot` that the table does not have are ignored.
    pub fn address(&self, slot: u32, family: Family) -> IpAddr {
        let index = slot & self.mask();
        match family {
            Family::V4 => Ipv4Addr::from_bits(self.ranges.v4.base.to_bits() | index).into(),
            Family::V6 => {
                Ipv6Addr::from_bits(self.ranges.v6.base.to_bits() | u128::from(index)).into()
            }
        }
    }

    /// The address of slot 0, which never has a name: what `getsockname` shows when the socket's own address cannot
    /// be said in its family (RFC 3089 §5).
    pub fn own(&self, family: Family) -> IpAddr {
        self.address(0, family)
    }

    /// How many slots there are, a power of two, slot 0 included.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The ranges that the pool was made of.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    pub(crate) fn mask(&self) -> u32 {
        self.slots.wrapping_sub(1)
    }
}

impl Family {
    /// The family of an address as it is written: a v4-mapped v6 address is V6 here.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            v4: Ipv4Range {
                base: Ipv4Addr::new(198, 18, 0, 0),
                prefix: 15,
            },
            v6: Ipv6Range {
                base: Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0),
                prefix: 64,
            },
        }
    }
}

/// Why a range cannot be one of fake addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Not `address/prefix`.
    #[error("a range is written as address/prefix, for example 198.18.0.0/15 or 100::/64")]
    Syntax,
    /// Below four addresses there is no room for names; above a sixteenth of the address space a slip of the finger
    /// would make most of the network fake.
    #[error("prefix /{0} is out of bounds: /4 to /30 for IPv4, /4 to /126 for IPv6")]
    Prefix(u8),
    /// An address that is not the first of its block is a slip of the finger, too.
    #[error("{0} is not the first address of the range: write {1}")]
    HostBits(IpAddr, IpAddr),
    /// These addresses have a meaning in every host.
    #[error("the range overlaps loopback or the v4-mapped addresses")]
    Reserved,
}

impl Ipv4Range {
    /// `base` is the first address of the range.
    ///
    /// # Errors
    /// [`RangeError`], other than `Syntax`.
    pub fn new(base: Ipv4Addr, prefix: u8) -> Result<Self, RangeError> {
        if !(4..=30).contains(&prefix) {
            return Err(RangeError::Prefix(prefix));
        }
        let range = Self { base, prefix };
        let first = Ipv4Addr::from_bits(base.to_bits() & u32::MAX.unbounded_shl(range.host_bits()));
        if base != first {
            return Err(RangeError::HostBits(base.into(), first.into()));
        }
        if range.contains(Ipv4Addr::LOCALHOST) || base.is_loopback() {
            return Err(RangeError::Reserved);
        }
        Ok(range)
    }

    /// The first address.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// The number of leading bits that all addresses of the range share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some()
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = address.to_bits() ^ self.base.to_bits();
        (offset.leading_zeros() >= u32::from(self.prefix)).then_some(offset)
    }

    fn host_bits(&self) -> u32 {
        u32::BITS.saturating_sub(u32::from(self.prefix))
    }
}

impl Ipv6Range {
    /// `base` is the first address of the range.
    ///
    /// # Errors
    /// [`RangeError`], other than `Syntax`.
    pub fn new(base: Ipv6Addr, prefix: u8) -> Result<Self, RangeError> {
        if !(4..=126).contains(&prefix) {
            return Err(RangeError::Prefix(prefix));
        }
        let range = Self { base, prefix };
        let first =
            Ipv6Addr::from_bits(base.to_bits() & u128::MAX.unbounded_shl(range.host_bits()));
        if base != first {
            return Err(RangeError::HostBits(base.into(), first.into()));
        }
        let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
        if range.contains(Ipv6Addr::LOCALHOST)
            || range.contains(mapped)
            || base.to_ipv4_mapped().is_some()
        {
            return Err(RangeError::Reserved);
        }
        Ok(range)
    }

    /// The first address.
    pub fn base(&self) -> Ipv6Addr {
        self.base
    }

    /// The number of leading bits that all addresses of the range share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        self.offset(address).is_some()
    }

    fn offset(&self, address: Ipv6Addr) -> Option<u128> {
        let offset = address.to_bits() ^ self.base.to_bits();
        (offset.leading_zeros() >= u32::from(self.prefix)).then_some(offset)
    }

    fn host_bits(&self) -> u32 {
        u128::BITS.saturating_sub(u32::from(self.prefix))
    }
}

impl FromStr for Ipv4Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (base, prefix) = split(text)?;
        Self::new(base, prefix)
    }
}

impl FromStr for Ipv6Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (base, prefix) = split(text)?;
        Self::new(base, prefix)
    }
}

fn split<A: FromStr>(text: &str) -> Result<(A, u8), RangeError> {
    let parsed = text.split_once('/').and_then(|(base, prefix)| {
        // u8's own parser would take "+15".
        let digits = prefix.bytes().all(|octet| octet.is_ascii_digit());
        Some((base.parse().ok()?, prefix.parse().ok().filter(|_| digits)?))
    });
    parsed.ok_or(RangeError::Syntax)
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Display for Ipv6Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4_ranges() -> impl Strategy<Value = Ipv4Range> {
        (any::<u32>(), 4..=30u8).prop_filter_map("reserved", |(bits, prefix)| {
            Ipv4Range::new(
                Ipv4Addr::from_bits(bits & (u32::MAX << (32 - prefix))),
                prefix,
            )
            .ok()
        })
    }

    fn v6_ranges() -> impl Strategy<Value = Ipv6Range> {
        (any::<u128>(), 4..=126u8).prop_filter_map("reserved", |(bits, prefix)| {
            Ipv6Range::new(
                Ipv6Addr::from_bits(bits & (u128::MAX << (128 - prefix))),
                prefix,
            )
            .ok()
        })
    }

    prop_compose! {
        fn pools()(v4 in v4_ranges(), v6 in v6_ranges()) -> Pool { Pool::new(&Ranges { v4, v6 }) }
    }

    proptest! {
        #[test]
        fn a_slot_s_addresses_are_fake_and_lead_back_to_it(pool in pools(), any in any::<u32>()) {
            let slot = any % pool.slots();
            for family in [Family::V4, Family::V6] {
                let address = pool.address(slot, family);
                prop_assert_eq!(Family::of(address), family);
                prop_assert!(pool.contains(address));
                prop_assert_eq!(pool.slot_of(address), Some(slot));
            }
        }

        #[test]
        fn no_slot_number_gives_an_address_outside_the_ranges(pool in pools(), any in any::<u32>()) {
            for family in [Family::V4, Family::V6] {
                prop_assert!(pool.slot_of(pool.address(any, family)).is_some());
            }
        }

        #[test]
        fn an_address_has_a_slot_only_if_it_is_that_slot_s(pool in pools(), bits in any::<u128>(), v4 in any::<u32>()) {
            for address in [Ipv6Addr::from_bits(bits).into(), Ipv4Addr::from_bits(v4).into()] {
                if let Some(slot) = pool.slot_of(address) {
                    prop_assert!(slot < pool.slots());
                    let address = address.to_canonical();
                    prop_assert_eq!(pool.address(slot, Family::of(address)), address);
                }
            }
        }

        #[test]
        fn a_v4_mapped_address_is_judged_as_the_v4_one(pool in pools(), v4 in any::<u32>(), any in any::<u32>()) {
            let fake = pool.address(any, Family::V4);
            for address in [IpAddr::V4(Ipv4Addr::from_bits(v4)), fake] {
                let IpAddr::V4(v4) = address else { continue };
                let mapped = IpAddr::V6(v4.to_ipv6_mapped());
                prop_assert_eq!(pool.contains(mapped), pool.contains(address));
                prop_assert_eq!(pool.slot_of(mapped), pool.slot_of(address));
            }
        }

        #[test]
        fn the_edges_of_a_range_are_where_its_prefix_says(range in v4_ranges()) {
            let first = range.base().to_bits();
            let last = first + ((1u64 << (32 - range.prefix())) - 1) as u32;
            prop_assert!(range.contains(Ipv4Addr::from_bits(first)));
            prop_assert!(range.contains(Ipv4Addr::from_bits(last)));
            prop_assert!(!range.contains(Ipv4Addr::from_bits(first.wrapping_sub(1))));
            prop_assert!(!range.contains(Ipv4Addr::from_bits(last.wrapping_add(1))));
        }

        #[test]
        fn a_range_is_read_back_as_it_is_written(v4 in v4_ranges(), v6 in v6_ranges()) {
            prop_assert_eq!(v4.to_string().parse(), Ok(v4));
            prop_assert_eq!(v6.to_string().parse(), Ok(v6));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _either = (text.parse::<Ipv4Range>(), text.parse::<Ipv6Range>());
        }
    }

    #[test]
    fn the_default_ranges_have_131072_slots_with_the_same_low_bits() {
        let pool = Pool::new(&Ranges::default());
        assert_eq!(pool.slots(), 1 << 17);
        for (slot, v4, v6) in [
            (0, "198.18.0.0", "100::"),
            (1, "198.18.0.1", "100::1"),
            (256, "198.18.1.0", "100::100"),
            (131_071, "198.19.255.255", "100::1:ffff"),
        ] {
            assert_eq!(pool.address(slot, Family::V4).to_string(), v4);
            assert_eq!(pool.address(slot, Family::V6).to_string(), v6);
        }
        assert_eq!(pool.own(Family::V4), pool.address(0, Family::V4));
    }

    #[test]
    fn beyond_the_last_slot_a_range_is_fake_and_has_no_name() {
        let v4 = "0.0.0.0/8".parse().expect("RFC 3089's own example");
        let pool = Pool::new(&Ranges {
            v4,
            ..Ranges::default()
        });
        assert_eq!(pool.slots(), MAX_SLOTS);
        for (text, slot) in [
            ("0.15.255.255", Some(MAX_SLOTS - 1)),
            ("0.16.0.0", None),
            ("100::f:ffff", Some(MAX_SLOTS - 1)),
            ("100::10:0", None),
            ("100::ffff:ffff:ffff:ffff", None),
        ] {
            let address = text.parse().expect("an address");
            assert!(pool.contains(address), "{text}");
            assert_eq!(pool.slot_of(address), slot, "{text}");
        }
    }

    #[test]
    fn a_range_that_can_only_be_a_mistake_is_refused() {
        let v4 = |text: &str| text.parse::<Ipv4Range>().expect_err(text);
        let v6 = |text: &str| text.parse::<Ipv6Range>().expect_err(text);
        for text in [
            "",
            "198.18.0.0",
            "/15",
            "198.18.0.0/",
            "198.18/15",
            "198.18.0.0/+15",
            "100::/64",
        ] {
            assert_eq!(v4(text), RangeError::Syntax, "{text}");
        }
        for text in [
            "",
            "100::",
            "100::/-1",
            "100::/64/1",
            "100::/0x40",
            "198.18.0.0/15",
        ] {
            assert_eq!(v6(text), RangeError::Syntax, "{text}");
        }
        assert_eq!(v4("0.0.0.0/0"), RangeError::Prefix(0));
        assert_eq!(v4("198.18.0.0/31"), RangeError::Prefix(31));
        assert_eq!(v4("198.18.0.0/33"), RangeError::Prefix(33));
        assert_eq!(v6("::/0"), RangeError::Prefix(0));
        assert_eq!(v6("100::/127"), RangeError::Prefix(127));
        assert_eq!(v6("100::/129"), RangeError::Prefix(129));
        assert!(matches!(v4("198.18.0.1/15"), RangeError::HostBits(..)));
        assert!(matches!(v6("100::1/64"), RangeError::HostBits(..)));
        for text in ["127.0.0.0/8", "127.64.0.0/16", "112.0.0.0/4"] {
            assert_eq!(v4(text), RangeError::Reserved, "{text}");
        }
        for text in ["::/64", "::/120", "::ffff:0:0/96", "::ffff:198.18.0.0/111"] {
            assert_eq!(v6(text), RangeError::Reserved, "{text}");
        }
    }
}
