//! `hostent`: one name, one address, in a buffer of the caller's (gethostbyname_r) or of the thread's.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::ptr;

use libc::hostent;

/// Two null-ended lists of pointers (no aliases; one address), the address, the name and its NUL.
const POINTERS: usize = 3;
const ADDRESS_OCTETS: usize = 16;

/// Room for any hostent that is made here, with the name's 255 octets.
const THREAD_ROOM: usize = 512;

/// What gethostbyname returns a pointer to: libc's is static and overwritten by the next call of any
/// thread; this one by the next call of the same thread. Plain octets, without a destructor, so that a
/// late key destructor may still call.
#[repr(C, align(16))]
struct Room {
    entry: hostent,
    octets: [u8; THREAD_ROOM],
}

thread_local! {
    static ROOM: std::cell::UnsafeCell<Room> = const {
        std::cell::UnsafeCell::new(Room {
            entry: hostent {
                h_name: ptr::null_mut(),
                h_aliases: ptr::null_mut(),
                h_addrtype: 0,
                h_length: 0,
                h_addr_list: ptr::null_mut(),
            },
            octets: [0; THREAD_ROOM],
        })
    };
}

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

/// The thread's own entry, filled; null if the name is longer than any that the table gives.
pub(crate) fn of_thread(name: &[u8], address: IpAddr) -> *mut hostent {
    ROOM.with(|room| {
        let room = room.get();
        // SAFETY: this thread's own room: nobody else writes to it, and no reference to it exists.
        unsafe {
            let entry = &raw mut (*room).entry;
            let buf = (&raw mut (*room).octets).cast::<c_char>();
            if write(name, address, entry, buf, THREAD_ROOM) {
                entry
            } else {
                ptr::null_mut()
            }
        }
    })
}

/// `AF_INET` and `AF_INET6` as the `gethostby…` family takes them.
pub(crate) fn family_of(family: c_int) -> Option<fake_dns::Family> {
    match family {
        libc::AF_INET => Some(fake_dns::Family::V4),
        libc::AF_INET6 => Some(fake_dns::Family::V6),
        _ => None,
    }
}
