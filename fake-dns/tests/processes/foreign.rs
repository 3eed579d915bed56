//! Files that are not ours, or no longer what they were: refused, and left as they are.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{self as unix, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use fake_dns::{Foreign, Ranges, Table, TableError};

use crate::support::{
    Folder, can, helper_after, is_root, lines, numbered, open, open_error, small, tell, told,
};

/// Opens a table that `change` has changed, twice: a refusal is for good, and changes nothing.
fn refused(change: impl FnOnce(&Path)) -> Foreign {
    let folder = Folder::new();
    let path = folder.table();
    open(&path, &small()).register(b"a.example").unwrap();
    change(&path);
    let before = fs::symlink_metadata(&path).unwrap();
    let [first, second] = [(); 2].map(|()| open_error(&path, &small()));
    assert_eq!(first, second);
    let after = fs::symlink_metadata(&path).unwrap();
    let facts = |m: &fs::Metadata| {
        (
            m.ino(),
            m.mode(),
            m.uid(),
            m.nlink(),
            m.len(),
            m.mtime_nsec(),
        )
    };
    assert_eq!(facts(&before), facts(&after));
    match first {
        TableError::Foreign { why } => why,
        other => panic!("{other:?}"),
    }
}

fn size() -> u64 {
    let folder = Folder::new();
    drop(open(&folder.table(), &small()));
    fs::metadata(folder.table()).unwrap().len()
}

#[test]
fn a_file_of_another_size_is_refused() {
    let expected = size();
    for found in [0, 1, 127, 128, 4096, expected - 1, expected + 1] {
        let why = refused(|path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(found)
                .unwrap();
        });
        assert_eq!(why, Foreign::Size { found, expected });
    }
}

#[test]
fn a_file_that_is_something_else_is_refused() {
    assert_eq!(
        refused(|path| overwrite(path, 0, b"SQLite format 3\0")),
        Foreign::Magic
    );
    assert_eq!(
        refused(|path| overwrite(path, 8, &[9, 0, 0, 0])),
        Foreign::Version(9)
    );
    assert_eq!(
        refused(|path| overwrite(path, 16, &[0xff])),
        Foreign::Header
    );
    assert_eq!(
        refused(|path| overwrite(path, 110, b"another key")),
        Foreign::Header
    );
}

fn overwrite(path: &Path, at: u64, octets: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(octets).unwrap();
}

#[test]
fn a_table_of_other_ranges_is_refused() {
    for other in ["198.18.0.0/15", "198.18.1.0/24"] {
        let other = Ranges {
            v4: other.parse().unwrap(),
            ..Ranges::default()
        };
        let why = refused(|path| {
            fs::remove_file(path).unwrap();
            drop(open(path, &other));
        });
        assert_eq!(why, Foreign::Ranges);
    }
}

#[test]
fn a_file_that_others_may_touch_or_that_we_may_not_is_refused() {
    for mode in [0o644, 0o660, 0o666, 0o700, 0o4600] {
        let why = refused(|path| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
        assert_eq!(why, Foreign::Mode(mode));
    }
    let why = refused(|path| fs::hard_link(path, path.with_extension("second")).unwrap());
    assert_eq!(why, Foreign::Links(2));
}

#[test]
fn a_file_of_another_user_is_refused() {
    if can("giving a file away", is_root()) {
        let why = refused(|path| unix::chown(path, Some(12345), None).unwrap());
        assert_eq!(why, Foreign::Owner(12345));
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_nobody_waits_for_it() {
    let why = refused(|path| {
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(path, &elsewhere).unwrap();
        unix::symlink(&elsewhere, path).unwrap();
    });
    assert_eq!(why, Foreign::Kind, "a symbolic link, even to a good table");
    let why = refused(|path| {
        fs::remove_file(path).unwrap();
        unix::symlink("/nonexistent", path).unwrap();
    });
    assert_eq!(why, Foreign::Kind, "a symbolic link to nowhere");
    let why = refused(|path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
    assert_eq!(why, Foreign::Kind, "a folder");
    let why = refused(|path| {
        fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        assert!(fs::metadata(path).unwrap().file_type().is_fifo());
    });
    assert_eq!(why, Foreign::Kind, "a pipe");
    let why = refused(|path| {
        fs::remove_file(path).unwrap();
        drop(UnixListener::bind(path).unwrap());
    });
    assert_eq!(why, Foreign::Kind, "a socket");
}

#[test]
fn a_path_that_leads_nowhere_is_an_error_and_makes_nothing() {
    let folder = Folder::new();
    for path in [
        folder.path().join("missing/table"),
        folder.path().join("t\0able"),
    ] {
        assert!(matches!(open_error(&path, &small()), TableError::Io(_)));
    }
    let longest = folder.path().join("x".repeat(255));
    assert!(
        matches!(open_error(&longest, &small()), TableError::Io(_)),
        "no room for a suffix"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The umask and the limit on file sizes are the application's, and both may be anything.
#[test]
fn the_application_s_umask_and_limits_do_no_harm() {
    let folder = Folder::new();
    let table = folder.table();
    let told = [("TABLE", table.to_str().unwrap())];
    // Past the limit the kernel would send SIGXFSZ, which ends a program.
    let output = helper_after("ulimit -f 64", "open", &told)
        .output()
        .unwrap();
    assert_eq!(lines(&output), ["errno 27"]);
    folder.assert_tidy();
    let output = helper_after("umask 0777", "open", &told).output().unwrap();
    assert_eq!(lines(&output), ["opened"]);
    assert_eq!(fs::metadata(&table).unwrap().mode() & 0o7777, 0o600);
    let output = helper_after("ulimit -f 64", "open", &told)
        .output()
        .unwrap();
    assert_eq!(
        lines(&output),
        ["opened"],
        "a table that is there can be used"
    );
}

pub(crate) fn open_as_told() {
    match Table::open(told("TABLE").as_ref(), &Ranges::default()) {
        Ok(table) => {
            for i in 0..1000 {
                table.register(numbered(i).as_bytes()).unwrap();
            }
            tell("opened");
        }
        Err(TableError::Io(errno)) => tell(&format!("errno {}", errno.raw_os_error())),
        Err(other) => tell(&format!("{other:?}")),
    }
}

/// A refused table is left alone, to the last octet.
#[test]
fn a_refused_file_keeps_its_content() {
    let folder = Folder::new();
    fs::write(folder.table(), b"somebody's diary").unwrap();
    fs::set_permissions(folder.table(), Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        open_error(&folder.table(), &small()),
        TableError::Foreign { .. }
    ));
    let mut content = String::new();
    File::open(folder.table())
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "somebody's diary");
}
