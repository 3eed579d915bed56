use super::*;

fn preload(present: Option<&str>) -> String {
    let library = Library("/usr/lib/libsocks6.so".into());
    library
        .preload(present.map(OsStr::new))
        .into_string()
        .unwrap()
}

#[test]
fn the_shim_comes_first_and_what_was_there_stays() {
    assert_eq!(preload(None), "/usr/lib/libsocks6.so");
    assert_eq!(preload(Some("")), "/usr/lib/libsocks6.so");
    assert_eq!(
        preload(Some("/a.so b.so")),
        "/usr/lib/libsocks6.so:/a.so:b.so"
    );
}

#[test]
fn the_shim_is_not_named_twice() {
    let present = "/a.so:/usr/lib/libsocks6.so";
    assert_eq!(preload(Some(present)), "/usr/lib/libsocks6.so:/a.so");
}

#[test]
fn what_the_loader_would_only_warn_of_is_refused() {
    let refused = |path: &str| {
        Library::find(Some(Path::new(path)))
            .unwrap_err()
            .to_string()
    };
    assert!(refused("/no/such/libsocks6.so").contains("No such file"));
    assert!(refused("/etc/passwd").contains("/etc/passwd"));
    let folder = std::env::temp_dir().join(format!("socks6 library {}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let spaced = folder.join("libsocks6.so");
    std::fs::copy("/proc/self/exe", &spaced).unwrap(); // position-independent, as a library is
    assert!(refused(spaced.to_str().unwrap()).contains("a space or a colon"));
    std::fs::remove_dir_all(folder).unwrap();
}
