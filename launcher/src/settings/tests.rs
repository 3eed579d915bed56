use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A home and an environment, with nothing else around.
struct World {
    home: PathBuf,
    variables: BTreeMap<String, OsString>,
}

impl World {
    fn new(name: &str) -> Self {
        let home = env::temp_dir().join(format!("socks6-settings-{}-{name}", std::process::id()));
        fs::create_dir_all(home.join(".config/socks6")).unwrap();
        let variables = BTreeMap::from([("HOME".to_owned(), home.clone().into_os_string())]);
        Self { home, variables }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.join(".config/socks6").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.into());
    }

    fn load(&self, args: &SettingsArgs) -> Result<Settings, LaunchError> {
        Settings::load_with(args, &|name| self.variables.get(name).cloned())
    }

    fn flat(&self, args: &SettingsArgs) -> String {
        let flat = self.load(args).unwrap().flat().unwrap();
        let fixed = ["# Written", "range-", "families both"];
        let lines = flat
            .lines()
            .filter(|line| !fixed.iter().any(|start| line.starts_with(start)));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn error(&self, args: &SettingsArgs) -> String {
        self.load(args).unwrap_err().to_string()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.home).unwrap();
    }
}

fn args() -> SettingsArgs {
    SettingsArgs::default()
}

fn gateway(text: &str) -> SettingsArgs {
    SettingsArgs {
        gateway: Some(text.to_owned()),
        ..args()
    }
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let mut world = World::new("layers");
    assert_eq!(world.flat(&args()), "");
    world.file(
        "config.toml",
        "gateway = '192.0.2.1:1080'\nlog = 'warn'\ntable = 'private'\n",
    );
    assert_eq!(
        world.flat(&args()),
        "gateway 192.0.2.1:1080\ntable private\nlog warn,stderr"
    );
    world.set("SOCKS6_GATEWAY", "[2001:db8::1]");
    world.set("SOCKS6_LOG", "error,fd:7");
    world.set("SOCKS6_TABLE", "/run/table");
    assert_eq!(
        world.flat(&args()),
        "gateway [2001:db8::1]:1080\ntable /run/table\nlog error,fd:7"
    );
    let flags = SettingsArgs {
        verbose: 1,
        ..gateway("192.0.2.3:1,192.0.2.4:2")
    };
    assert_eq!(
        world.flat(&flags),
        "gateway 192.0.2.3:1,192.0.2.4:2\ntable /run/table\nlog info,stderr"
    );
}

#[test]
fn all_keys_of_the_file_arrive() {
    let world = World::new("keys");
    let file = world.file(
        "config.toml",
        r#"
        gateway = ["192.0.2.1:1080?pipelined", "[2001:db8::1]:1081"]
        user = "alice"
        password = "wonder land"
        table = "names"
        log = "debug,file:log"
        range-v4 = "240.0.0.0/8"
        range-v6 = "fd00::/64"
        families = "v6"
        resolve = "verify"
        rules = ["direct .corp.example", "relay 127.0.0.0/8 tcp"]
        sticky = true
        strict = true
        library = "/opt/libsocks6.so"
        "#,
    );
    let folder = file.parent().unwrap().display();
    let settings = world.load(&args()).unwrap();
    assert_eq!(
        settings.flat().unwrap(),
        format!(
            "# Written by socks6 for libsocks6.so.\n\
             gateway socks5://alice:wonder%20land@192.0.2.1:1080?pipelined,\
             socks5://alice:wonder%20land@[2001:db8::1]:1081\n\
             table {folder}/names\n\
             log debug,file:{folder}/log\n\
             range-v4 240.0.0.0/8\n\
             range-v6 fd00::/64\n\
             families v6\n\
             resolve verify\n\
             sticky true\n\
             rule direct .corp.example\n\
             rule relay 127.0.0.0/8 tcp\n"
        )
    );
    assert!(settings.is_strict);
    assert_eq!(settings.library, Some("/opt/libsocks6.so".into()));
    assert_eq!(settings.source, Some(file));
    assert_eq!(
        settings.gateways_as_named,
        ["192.0.2.1:1080", "[2001:db8::1]:1081"]
    );
}

/// docs/configuration.md: other programs' variables count where nothing of our own names a gateway.
#[test]
fn other_programs_variables_are_understood() {
    let mut world = World::new("foreign");
    world.set("SOCKS5_SERVER", "192.0.2.9:1085");
    assert_eq!(world.flat(&args()), "gateway 192.0.2.9:1085");
    world.set("ALL_PROXY", "socks5h://alice:secret@192.0.2.8:1081/");
    world.set("NO_PROXY", "corp.example,10.0.0.0/8");
    let expected = "gateway socks5://alice:secret@192.0.2.8:1081\n\
        rule direct .corp.example\nrule direct 10.0.0.0/8";
    assert_eq!(world.flat(&args()), expected);
    let told = world.load(&args()).unwrap().foreign.unwrap().to_string();
    assert_eq!(told, "from ALL_PROXY, but for what NO_PROXY names");
    // What stands in our own file goes to no other gateway; nor do the exceptions of another proxy count.
    world.file("config.toml", "user = 'bob'\npassword = 'hidden'\n");
    assert_eq!(world.flat(&args()), expected);
    world.file("config.toml", "gateway = '192.0.2.1'\n");
    assert_eq!(world.flat(&args()), "gateway 192.0.2.1:1080");
    assert!(world.load(&args()).unwrap().foreign.is_none());
    world.set("SOCKS6_GATEWAY", "192.0.2.2");
    assert_eq!(world.flat(&args()), "gateway 192.0.2.2:1080");
}

/// They are not written for socks6: what it cannot use is passed over, and the next one asked.
#[test]
fn what_cannot_be_used_in_other_programs_variables_is_passed_over() {
    for proxy in [
        "http://192.0.2.8:8080",
        "192.0.2.8:8080",
        "socks4://192.0.2.8",
    ] {
        let mut world = World::new("foreign-http");
        world.set("all_proxy", proxy);
        world.set("NO_PROXY", "*");
        assert_eq!(world.flat(&args()), "", "{proxy}");
        world.set("SOCKS5_SERVER", "192.0.2.9:1085");
        let flat = world.flat(&args());
        assert_eq!(flat, "gateway 192.0.2.9:1085\nrule direct *", "{proxy}");
    }
    let mut world = World::new("foreign-exceptions");
    world.set("ALL_PROXY", "socks5://192.0.2.8");
    for odd in [
        "169.254/16",
        "<local>",
        "10.0.0.0/255.0.0.0",
        "fe80::1%eth0",
        ".",
        "*:80",
    ] {
        world.set("NO_PROXY", &format!("{odd},corp.example"));
        let flat = world.flat(&args());
        assert_eq!(
            flat, "gateway 192.0.2.8:1080\nrule direct .corp.example",
            "{odd}"
        );
    }
}

/// docs/configuration.md: under `--strict` a `*` in `NO_PROXY` is refused; in our own variable it is the user's word.
#[test]
fn another_programs_star_is_refused_under_strict() {
    let mut world = World::new("foreign-strict");
    world.file("config.toml", "strict = true\n");
    world.set("ALL_PROXY", "socks5://192.0.2.8");
    world.set("NO_PROXY", "corp.example,*");
    let refused = world.load(&args()).unwrap().refuse_under_strict();
    assert!(matches!(refused, Err(LaunchError::Strict(_))));
    world.set("NO_PROXY", "corp.example");
    world.set("SOCKS6_NO_PROXY", "*");
    world.load(&args()).unwrap().refuse_under_strict().unwrap();
}

/// Options, variables, file: the first rule that matches decides.
#[test]
fn rules_come_in_the_order_of_their_layers() {
    let mut world = World::new("rules");
    world.file("config.toml", "rules = ['reject *']\n");
    world.set("SOCKS6_NO_PROXY", "a.example,10.0.0.0/8");
    let args = SettingsArgs {
        rules: vec!["relay a.example 80".to_owned()],
        ..args()
    };
    assert_eq!(
        world.flat(&args),
        "rule relay a.example 80\nrule direct .a.example\nrule direct 10.0.0.0/8\nrule reject *"
    );
    world.set("SOCKS6_NO_PROXY", "a.example:http");
    let error = world.error(&args);
    assert!(error.starts_with("SOCKS6_NO_PROXY: "), "{error}");
    let wrong = SettingsArgs {
        rules: vec!["drop *".to_owned()],
        ..args
    };
    world.set("SOCKS6_NO_PROXY", "");
    let error = world.error(&wrong);
    assert!(error.starts_with("--rule: "), "{error}");
}

#[test]
fn a_mistake_is_told_with_file_line_and_column() {
    let world = World::new("mistakes");
    for (text, place, words) in [
        (
            "gateway = '192.0.2.1'\ngatway = 'x'\n",
            "2:1",
            "unknown field `gatway`",
        ),
        ("gateway = 'a:b:c'\n", "1:11", "`a:b:c` is not host:port"),
        (
            "\nrange-v4 = '198.18.0.1/15'\n",
            "2:12",
            "not the first address",
        ),
        ("strict = 'yes'", "1:10", "expected a boolean"),
        ("families = 'v5'", "1:12", "expected v4, v6 or both"),
        ("families = \"v4\\nlog debug\"", "1:12", "expected one line"),
        ("table = \"/a\\nrule direct *\"", "1:9", "expected one line"),
        ("table = '/a '", "1:9", "expected one line"),
        ("log = \"info,file:a\\nb\"", "1:7", "expected one line"),
        ("log = 'loud'", "1:7", "expected error, warn, info or debug"),
        ("user = 'alice'", "1:8", "a user needs a password"),
        ("gateway = 7", "1:11", "in quotes"),
        ("gateway = 'x", "1:", "string"),
    ] {
        let file = world.file("config.toml", text);
        let error = world.error(&args());
        assert!(
            error.starts_with(&format!("{}:{place}", file.display())),
            "{text}: {error}"
        );
        assert!(error.contains(words), "{text}: {error}");
    }
    let error = world.error(&gateway("no spaces"));
    assert!(!error.contains("SOCKS6_GATEWAY"), "{error}");
    let error = world.error(&SettingsArgs {
        config: Some("/no/such.toml".into()),
        ..args()
    });
    assert_eq!(error, "/no/such.toml: No such file or directory");
}

#[test]
fn no_message_repeats_a_secret() {
    let world = World::new("secrets");
    for text in [
        "password = 271828",
        "password = ['271828']",
        "gateway = 'socks5://alice:271828@'",
        "gateway = 'alice:271828@192.0.2.1'",
        "user = 'alice'\npassword = \"271828",
        "user = ''\npassword = '271828'",
        "password = '271828'",
    ] {
        world.file("config.toml", text);
        let error = world.error(&args());
        assert!(!error.contains("271828"), "{text}: {error}");
    }
    world.file(
        "config.toml",
        "gateway = 'x'\nuser = 'alice'\npassword = '271828'",
    );
    let shown = format!(
        "{:?}",
        Base::read(&world.home.join(".config/socks6/config.toml"))
    );
    assert!(!shown.contains("271828"), "{shown}");
}

#[test]
fn a_login_goes_to_no_other_gateway_than_it_was_given_for() {
    let mut world = World::new("login");
    world.file(
        "config.toml",
        "gateway = '192.0.2.1'\nuser = 'alice'\npassword = 'x'\n",
    );
    assert_eq!(
        world.flat(&args()),
        "gateway socks5://alice:x@192.0.2.1:1080"
    );
    assert_eq!(world.flat(&gateway("192.0.2.2")), "gateway 192.0.2.2:1080");
    world.set("SOCKS6_GATEWAY", "192.0.2.3");
    assert_eq!(world.flat(&args()), "gateway 192.0.2.3:1080");
    world.set("SOCKS6_USER", "bob");
    world.set("SOCKS6_PASSWORD", "y");
    assert_eq!(world.flat(&args()), "gateway socks5://bob:y@192.0.2.3:1080");
    assert_eq!(world.flat(&gateway("192.0.2.2")), "gateway 192.0.2.2:1080");
}

#[test]
fn a_password_file_is_named_and_not_copied() {
    let world = World::new("password-file");
    let file = world.file("secret", "271828\n");
    let flags = SettingsArgs {
        user: Some("alice".into()),
        password_file: Some(file.clone()),
        ..gateway("192.0.2.1")
    };
    assert_eq!(
        world.flat(&flags),
        format!(
            "gateway 192.0.2.1:1080\nuser alice\npassword-file {}",
            file.display()
        )
    );
    fs::write(&file, "\n").unwrap();
    assert!(world.error(&flags).contains("1 to 255 octets"));
    fs::remove_file(&file).unwrap();
    assert!(world.error(&flags).ends_with("No such file or directory"));
}

#[test]
fn odd_passwords_survive_the_flat_file() {
    let mut world = World::new("odd");
    for password in [" x ", "#x", "a@b:c/d,e%41", "π", "line\nfeed", "x"] {
        world.set("SOCKS6_GATEWAY", "192.0.2.1");
        world.set("SOCKS6_USER", "al ice");
        world.set("SOCKS6_PASSWORD", password);
        let flat = world.load(&args()).unwrap().flat().unwrap();
        let config = Config::build(Some(&flat), &Variables::default()).unwrap();
        let login = config.gateways[0].login.clone().unwrap();
        assert_eq!(
            (login.user.as_slice(), login.password.0.as_slice()),
            (&b"al ice"[..], password.as_bytes())
        );
    }
}

#[test]
fn within_a_run_its_flat_file_is_what_counts() {
    let mut world = World::new("nested");
    world.file("config.toml", "gateway = '192.0.2.9'\n");
    let flat = world.file(
        "outer",
        "gateway 192.0.2.1:1080\nuser alice\npassword x\nlog info\n",
    );
    world.set("SOCKS6_CONFIG", flat.to_str().unwrap());
    assert_eq!(
        world.flat(&args()),
        "gateway socks5://alice:x@192.0.2.1:1080\nlog info,stderr"
    );
    assert_eq!(
        world.flat(&gateway("192.0.2.2")),
        "gateway 192.0.2.2:1080\nlog info,stderr"
    );
    world.file("outer", "\ntable here\n");
    assert!(
        world
            .error(&args())
            .starts_with(&format!("{}:2: ", flat.display()))
    );
}

#[test]
fn names_become_addresses_and_one_that_is_unknown_is_told() {
    let world = World::new("names");
    let settings = world.load(&gateway("localhost:1080")).unwrap();
    assert!(!settings.config.gateways.is_empty());
    assert!(
        settings
            .config
            .gateways
            .iter()
            .all(|g| matches!(g.host, GatewayHost::Ip(_)))
    );
    assert_eq!(settings.gateways_as_named, ["localhost:1080"]);
    // RFC 1035 §2.3.4: no label has 64 octets, so nobody is asked.
    let impossible = "a".repeat(64);
    let error = world.error(&gateway(&impossible));
    assert!(
        error.starts_with(&format!("gateway {impossible}:1080: ")),
        "{error}"
    );
}
