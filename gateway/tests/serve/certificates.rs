//! Certificates for tests, made by openssl(1), and openssl(1) as a peer that we have not written.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::Folder;

/// Somebody who signs certificates. They are good for their name and for 127.0.0.1.
pub(crate) struct Ca(Folder);

impl Ca {
    pub(crate) fn new() -> Self {
        let ca = Self(Folder::new("ca"));
        let (key, pem) = (ca.key("ca"), ca.pem("ca"));
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("/CN=CA {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let subject = ["-x509", "-subj", &name, "-days", "30", "-out", &pem];
        openssl(&[&NEW_KEY[..], &["-keyout", &key], &subject[..]].concat());
        ca
    }

    pub(crate) fn pem(&self, name: &str) -> String {
        self.file(&format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> String {
        self.file(&format!("{name}.key"))
    }

    fn file(&self, name: &str) -> String {
        self.0.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn sign(&self, name: &str) {
        self.sign_for(name, "30");
    }

    /// One that is not good any more: it was for the second in which it was signed.
    pub(crate) fn sign_too_late(&self, name: &str) {
        self.sign_for(name, "0");
        thread::sleep(Duration::from_millis(1100));
    }

    fn sign_for(&self, name: &str, days: &str) {
        let (request, key, pem) = (self.file("request"), self.key(name), self.pem(name));
        let subject = format!("/CN={name}");
        let names = format!("subjectAltName=DNS:{name},IP:127.0.0.1");
        let asked = ["-subj", &subject, "-addext", &names, "-out", &request];
        openssl(&[&NEW_KEY[..], &["-keyout", &key], &asked[..]].concat());
        let (ca_pem, ca_key) = (self.pem("ca"), self.key("ca"));
        let signed = ["x509", "-req", "-in", &request, "-copy_extensions", "copy"];
        let by = [
            "-CA", &ca_pem, "-CAkey", &ca_key, "-days", days, "-out", &pem,
        ];
        openssl(&[&signed, &by[..]].concat());
    }

    /// The certificate of this name as a listener's, and what else there is to say.
    pub(crate) fn listener(&self, name: &str, more: &str) -> String {
        format!(
            "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{}\"\nkey = \"{}\"\n{more}\n",
            self.pem(name),
            self.key(name)
        )
    }

    /// `tls` of an upstream that this CA has signed.
    pub(crate) fn trusted(&self, more: &str) -> String {
        format!("tls = {{ ca = \"{}\"{more} }}", self.pem("ca"))
    }

    /// A certificate of one's own, to be shown to others.
    pub(crate) fn own(&self, name: &str) -> String {
        let (pem, key) = (self.pem(name), self.key(name));
        format!(", certificate = \"{pem}\", key = \"{key}\"")
    }
}

const NEW_KEY: [&str; 6] = [
    "req",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-noenc",
];

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// A running `openssl s_client` or `s_server`, killed with this value.
pub(crate) struct Openssl(Child);

impl Openssl {
    pub(crate) fn client(to: SocketAddr, arguments: &[&str]) -> Self {
        let to = to.to_string();
        Self::start(&["s_client", "-quiet", "-connect", &to], arguments)
    }

    pub(crate) fn server(at: SocketAddr, arguments: &[&str]) -> Self {
        let at = at.to_string();
        Self::start(&["s_server", "-quiet", "-accept", &at], arguments)
    }

    fn start(what: &[&str], arguments: &[&str]) -> Self {
        // Whatever happens, no test waits for it any longer.
        let mut command = Command::new("timeout");
        command.args(["20", "openssl"]).args(what).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn write(&mut self, octets: &[u8]) {
        self.0.stdin.as_mut().unwrap().write_all(octets).unwrap();
    }

    pub(crate) fn read(&mut self, octets: usize) -> Vec<u8> {
        let mut read = vec![0; octets];
        let out = self.0.stdout.as_mut().unwrap();
        out.read_exact(&mut read).unwrap();
        read
    }

    /// What it says to its end.
    pub(crate) fn end(mut self) -> (bool, Vec<u8>, String) {
        let (mut octets, mut said) = (Vec::new(), String::new());
        let mut out = self.0.stdout.take().unwrap();
        out.read_to_end(&mut octets).unwrap();
        let mut err = self.0.stderr.take().unwrap();
        err.read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().success(), octets, said)
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // timeout(1) passes this one on.
            kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        }
        self.0.wait().ok();
    }
}
