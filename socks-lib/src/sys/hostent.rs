//! `hostent`: one name, one address, in a buffer of the caller's (gethostbyname_r) or of the process.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::ptr;

use libc::hostent;

/// Two null-ended lists of pointers (no aliases; one address), the address, the name and its NUL.
const POINTERS: usize = 3;
const ADDRESS_OCTETS: usize = 16;

/// Room for any hostent that is made here, with the name's 255 octets.
const ROOM_OCTETS: usize = 512;

/// What gethostbyname returns a pointer to. As libc's it is the process's, overwritten by the next call of
/// any thread, and outlives the thread that asked.
#[repr(C, align(16))]
struct Room {
    entry: hostent,
    octets: [u8; ROOM_OCTETS],
}

struct Shared(UnsafeCell<Room>);

// SAFETY: gethostbyname(3) is MT-Unsafe by its contract: callers see to it that no two threads use it at
// once. Only raw pointers into it are made here, never references.
unsafe impl Sync for Shared {}

static ROOM: Shared = Shared(UnsafeCell::new(Room {
    entry: hostent {
        h_name: ptr::null_mut(),
        h_aliases: ptr::null_mut(),
        h_addrtype: 0,
        h_length: 0,
        h_addr_list: ptr::null_mut(),
    },
    octets: [0; ROOM_OCTETS],
}));

/// Writes `name` and `address` into `entry` and `buf`; false if they do not fit (ERANGE).
///
/// # Safety
/// `entry` is writable and `buf` is writable for `buf_len` octets.
pub(crate) unsafe fn write(
    name: &[u8],
    address: IpAddr,
    entry: *mut hostent,
    buf: *mut c_char,
    buf_len: usize,
) -> bool {
    let pad = buf.align_offset(align_of::<*mut c_char>());
    let pointers_octets = POINTERS.saturating_mul(size_of::<*mut c_char>());
    let needed = pad
        .saturating_add(pointers_octets)
        .saturating_add(ADDRESS_OCTETS)
        .saturating_add(name.len())
        .saturating_add(1);
    if needed > buf_len {
        return false;
    }
    // SAFETY: `needed` octets from `buf` are writable (checked above, our caller's contract); each part
    // begins where the one before it ends.
    let (pointers, octets, text) = unsafe {
        let pointers = buf.add(pad);
        let octets = pointers.add(pointers_octets);
        (
            pointers.cast::<*mut c_char>(),
            octets,
            octets.add(ADDRESS_OCTETS),
        )
    };
    let (family, len) = match address {
        IpAddr::V4(v4) => {
            // SAFETY: 4 of the 16 octets kept for the address.
            unsafe { octets.cast::<[u8; 4]>().write_unaligned(v4.octets()) };
            (libc::AF_INET, 4)
        }
        IpAddr::V6(v6) => {
            // SAFETY: the 16 octets kept for the address.
            unsafe { octets.cast::<[u8; 16]>().write_unaligned(v6.octets()) };
            (libc::AF_INET6, 16)
        }
    };
    // SAFETY: three aligned pointers, the name and its NUL, all within `needed`; `entry` is writable.
    unsafe {
        pointers.write(octets);
        pointers.add(1).write(ptr::null_mut());
        pointers.add(2).write(ptr::null_mut());
        ptr::copy_nonoverlapping(name.as_ptr(), text.cast(), name.len());
        text.add(name.len()).write(0);
        entry.write(hostent {
            h_name: text,
            h_aliases: pointers.add(2),
            h_addrtype: family,
            h_length: len,
            h_addr_list: pointers,
        });
    }
    true
}

/// The process's own entry, filled; null if the name is longer than any that the table gives.
pub(crate) fn of_process(name: &[u8], address: IpAddr) -> *mut hostent {
    let room = ROOM.0.get();
    // SAFETY: a static, written through raw pointers alone; our callers' contract is gethostbyname's.
    unsafe {
        let entry = &raw mut (*room).entry;
        let buf = (&raw mut (*room).octets).cast::<c_char>();
        if write(name, address, entry, buf, ROOM_OCTETS) {
            entry
        } else {
            ptr::null_mut()
        }
    }
}

/// `AF_INET` and `AF_INET6` as the `gethostby…` family takes them.
pub(crate) fn family_of(family: c_int) -> Option<fake_dns::Family> {
    match family {
        libc::AF_INET => Some(fake_dns::Family::V4),
        libc::AF_INET6 => Some(fake_dns::Family::V6),
        _ => None,
    }
}

/// Each address of an entry.
///
/// # Safety
/// `entry` is null or an entry of libc's making.
pub(crate) unsafe fn for_each_address(entry: *const hostent, mut with: impl FnMut(IpAddr)) {
    // SAFETY: our caller's contract.
    let Some(entry) = (unsafe { entry.as_ref() }) else {
        return;
    };
    let mut list = entry.h_addr_list;
    // SAFETY: a list of pointers that ends in null (gethostbyname(3)).
    while let Some(address) = unsafe { list.as_ref() }.filter(|address| !address.is_null()) {
        match (entry.h_addrtype, entry.h_length) {
            (libc::AF_INET, 4) => {
                // SAFETY: an address of h_length octets.
                with(unsafe { address.cast::<[u8; 4]>().read_unaligned() }.into());
            }
            (libc::AF_INET6, 16) => {
                // SAFETY: the same.
                with(unsafe { address.cast::<[u8; 16]>().read_unaligned() }.into());
            }
            _ => {}
        }
        // SAFETY: not the end (checked).
        list = unsafe { list.add(1) };
    }
}
