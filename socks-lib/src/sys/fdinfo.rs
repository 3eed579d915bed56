//! What an epoll set has, as the kernel tells it in /proc.

use std::ffi::{OsStr, c_int};
use std::fmt;
use std::io::{Cursor, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use socks_client::Registration;

use crate::sys::file::File;

/// Calls `visit` with each descriptor of the epoll set `set` and what the set was told of it, as proc(5) has it under
/// /proc/PID/fdinfo; not at all where /proc is not mounted or `set` is something else.
pub(crate) fn for_each_in(set: c_int, mut visit: impl FnMut(c_int, Registration)) {
    let path = Text::new(format_args!("/proc/self/fdinfo/{set}"));
    let Ok(file) = File::open(path.as_path(), OFlags::RDONLY) else {
        return;
    };
    // The stack may be a signal handler's, and a line is of some 90 octets.
    let mut room = [0; 512];
    let mut kept = 0;
    loop {
        let free = room.get_mut(kept..).unwrap_or_default();
        let Ok(read @ 1..) = file.read(free) else {
            return;
        };
        let filled = kept.saturating_add(read);
        let mut rest = room.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
            let (line, behind) = rest.split_at(end);
            if let Some((fd, registration)) = entry(line, set) {
                visit(fd, registration);
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        kept = rest.len();
        room.copy_within(filled.saturating_sub(kept)..filled, 0);
    }
}

/// Whether `fd` is an epoll set.
pub(crate) fn is_set(fd: c_int) -> bool {
    let path = Text::new(format_args!("/proc/self/fd/{fd}"));
    let mut room = [MaybeUninit::uninit(); 32];
    let kind = rustix::fs::readlinkat_raw(CWD, path.as_path().as_os_str().as_bytes(), &mut room);
    kind.is_ok_and(|(kind, _)| kind == b"anon_inode:[eventpoll]")
}

/// A path in /proc, without heap.
struct Text(Cursor<[u8; 32]>);

impl Text {
    fn new(text: fmt::Arguments<'_>) -> Self {
        let mut room = Cursor::new([0; 32]);
        // With the longest number there is room to spare.
        let _fits = room.write_fmt(text);
        Self(room)
    }

    fn as_path(&self) -> &Path {
        let len = usize::try_from(self.0.position()).unwrap_or(0);
        let octets = self.0.get_ref().get(..len).unwrap_or_default();
        Path::new(OsStr::from_bytes(octets))
    }
}

/// `tfd: 7 events: 80000019 data: 7 pos:0 ino:2d sdev:8`
fn entry(line: &[u8], set: c_int) -> Option<(c_int, Registration)> {
    let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut value = |name| (words.next() == Some(name)).then(|| words.next()).flatten();
    let fd = value("tfd:")?.parse().ok()?;
    let events = u32::from_str_radix(value("events:")?, 16).ok()?;
    let data = u64::from_str_radix(value("data:")?, 16).ok()?;
    Some((fd, Registration { set, events, data }))
}
