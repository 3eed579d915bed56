use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn scratch(name: &str) -> PathBuf {
    let path = env::temp_dir().join(format!("socks6-runtime-{}-{name}", process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_folder_that_others_can_enter_or_have_put_there_is_not_ours() {
    let scratch = scratch("folder");
    let made = scratch.join("made");
    own_folder(&made).unwrap();
    own_folder(&made).unwrap();
    assert_eq!(mode(&made), 0o700);

    let link = scratch.join("link");
    symlink(&made, &link).unwrap();
    own_folder(&link).unwrap_err();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o750)).unwrap();
    own_folder(&made).unwrap_err();
    own_folder(&scratch.join("no/such/parent")).unwrap_err();
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn one_configuration_is_one_file_that_nobody_else_reads() {
    let scratch = scratch("config");
    let folder = RuntimeDir(scratch.clone());
    let one = folder.keep_config("gateway 192.0.2.1:1080\n").unwrap();
    assert_eq!(folder.keep_config("gateway 192.0.2.1:1080\n").unwrap(), one);
    let other = folder.keep_config("gateway 192.0.2.2:1080\n").unwrap();
    assert_ne!(one, other);
    assert_eq!(
        fs::read_to_string(&one).unwrap(),
        "gateway 192.0.2.1:1080\n"
    );
    assert_eq!(mode(&one), 0o600);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 2);

    let run = folder.run_folder().unwrap();
    assert_eq!(mode(&run), 0o700);
    assert_ne!(folder.run_folder().unwrap(), run);
    fs::remove_dir_all(scratch).unwrap();
}
