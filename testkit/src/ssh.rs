//! Debian's sshd with keys and a configuration of its own, and how a client logs in.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::netns::Namespace;
use crate::process::Service;
use crate::topology::Topology;

/// A running sshd. root logs in with [`Sshd::client`]'s key.
#[derive(Debug)]
pub struct Sshd {
    service: Service,
    dir: PathBuf,
}

impl Sshd {
    /// Starts sshd on these addresses.
    #[must_use]
    pub fn start(topology: &Topology, at: &Namespace, addresses: &[SocketAddr]) -> Self {
        let dir = topology.dir().join(format!("ssh-{}", at.name()));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all("/run/sshd").unwrap(); // sshd wants it; systemd makes it for a service only
        for key in ["host", "login"] {
            keygen(&dir.join(key));
        }
        let d = dir.display();
        let mut config = format!(
            "HostKey {d}/host\nAuthorizedKeysFile {d}/login.pub\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             PidFile none\nAllowTcpForwarding yes\nMaxStartups 100\n"
        );
        for address in addresses {
            writeln!(config, "ListenAddress {address}").unwrap();
        }
        fs::write(dir.join("sshd_config"), config).unwrap();
        let mut command = at.command("/usr/sbin/sshd");
        command
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"));
        let mut service = Service::start("sshd", &mut command, topology.dir());
        service.wait_until("listening", |log| {
            (log.matches("Server listening on").count() == addresses.len()).then_some(())
        });
        Self { service, dir }
    }

    /// `/usr/bin/ssh` with what it needs to log in; options of the test's own, host and command follow.
    #[must_use]
    pub fn client(&self) -> Vec<String> {
        let d = self.dir.display();
        let mut argv = vec!["/usr/bin/ssh".to_owned(), "-F".into(), "none".into()];
        for option in [
            format!("IdentityFile={d}/login"),
            "IdentitiesOnly=yes".into(),
            format!("UserKnownHostsFile={d}/known_hosts"),
            "GlobalKnownHostsFile=none".into(),
            "StrictHostKeyChecking=accept-new".into(),
            "BatchMode=yes".into(),
            "User=root".into(),
            "LogLevel=ERROR".into(),
        ] {
            argv.extend(["-o".into(), option]);
        }
        argv
    }

    /// Its log, for the message of a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }
}

fn keygen(path: &Path) {
    let done = Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f"])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
