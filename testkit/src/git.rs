//! A git repository of about the payload's size, and how it is served: git's own http-backend as a CGI, or git's own daemon.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::artefacts::made_once;
use crate::netns::Namespace;
use crate::origin::{Request, payload};
use crate::process::Service;
use crate::topology::Topology;

pub(crate) const GIT: &str = "/usr/bin/git";

/// A bare repository with one commit: the payload and a short README. Its name is its folder's: `repository.git`.
#[must_use]
pub fn repository() -> PathBuf {
    let payload = payload(); // made before the other: they are made one at a time
    made_once("repository.git", |bare| {
        let work = bare.with_file_name(format!("work-{}", std::process::id()));
        fs::create_dir_all(&work).unwrap();
        fs::copy(&payload, work.join("payload")).unwrap();
        fs::write(work.join("README"), "A repository to be cloned.\n").unwrap();
        git(&work, &["init", "--quiet", "--initial-branch=main"]);
        git(&work, &["config", "core.compression", "0"]); // random octets: nothing to gain
        git(&work, &["add", "."]);
        git(&work, &["commit", "--quiet", "--message", "a payload"]);
        let to = bare.to_string_lossy();
        git(&work, &["clone", "--quiet", "--bare", ".", &to]);
        // Packed, so that serving it costs next to nothing.
        git(bare, &["config", "core.compression", "0"]);
        git(bare, &["repack", "-adq"]);
        fs::remove_dir_all(&work).unwrap();
    })
}

fn git(dir: &Path, arguments: &[&str]) {
    let done = quiet(Command::new(GIT).current_dir(dir).args(arguments))
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Without the configuration of whoever runs the tests, and content with a repository that belongs to somebody else (the
/// build may have been made by the user who then called sudo).
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "tests")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "tests@example")))
}

/// git's own daemon, which serves [`repository`] as `git://HOST/repository.git`.
#[must_use]
pub fn git_daemon(topology: &Topology, at: &Namespace) -> Service {
    let repository = repository();
    let mut command = at.command(GIT);
    command.args(["daemon", "--verbose", "--export-all", "--reuseaddr"]);
    command.arg(format!(
        "--base-path={}",
        repository.parent().unwrap().display()
    ));
    let mut service = Service::start("git-daemon", quiet(&mut command), topology.dir());
    service.wait_for_log("Ready to rumble");
    service
}

/// The whole HTTP answer to a request below `/git/`, by git-http-backend (a CGI).
pub(crate) fn answer(request: &Request) -> io::Result<Vec<u8>> {
    let mut command = Command::new("/usr/lib/git-core/git-http-backend");
    let mut backend = quiet(&mut command)
        .env("GIT_PROJECT_ROOT", repository().parent().unwrap())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", request.path.trim_start_matches("/git"))
        .env("QUERY_STRING", &request.query)
        .env(
            "CONTENT_TYPE",
            request.header("content-type").unwrap_or_default(),
        )
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env(
            "HTTP_CONTENT_ENCODING",
            request.header("content-encoding").unwrap_or_default(),
        )
        .env(
            "GIT_PROTOCOL",
            request.header("git-protocol").unwrap_or_default(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    backend.stdin.take().unwrap().write_all(&request.body)?;
    let cgi = backend.wait_with_output()?.stdout;
    // A CGI names a status only if it is not 200.
    let status = cgi
        .strip_prefix(b"Status: ")
        .and_then(|rest| rest.split(|&o| o == b'\r').next());
    let mut answer = b"HTTP/1.1 ".to_vec();
    answer.extend(status.unwrap_or(b"200 OK"));
    answer.extend(b"\r\nConnection: close\r\n");
    answer.extend(cgi);
    Ok(answer)
}
