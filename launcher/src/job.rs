//! A command with everything around it that makes it run under the shim.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LaunchError;
use crate::outer;
use crate::program::Program;
use crate::settings;

/// What is to be executed.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) path: PathBuf,
    /// argv[0]: the command as it was typed.
    pub(crate) arg0: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// LD_PRELOAD.
    pub(crate) preload: OsString,
    /// Variables that it must not see.
    pub(crate) without: Vec<&'static str>,
}

impl Job {
    pub(crate) fn new(
        program: Program,
        command: &OsStr,
        arguments: &[OsString],
        preload: OsString,
    ) -> Self {
        let arguments = arguments.to_vec();
        if !program.is_plain_text {
            return Self {
                path: program.path,
                arg0: command.to_owned(),
                arguments,
                preload,
                without: Vec::new(),
            };
        }
        let script = std::iter::once(program.path.into_os_string());
        Self {
            path: "/bin/sh".into(),
            arg0: "/bin/sh".into(),
            arguments: script.chain(arguments).collect(),
            preload,
            without: Vec::new(),
        }
    }

    /// The command, with the flat file as the one source of the shim's settings.
    pub(crate) fn command(&self, flat: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.arg0).args(&self.arguments);
        let ours = settings::VARIABLES.into_iter().chain([outer::MARK]);
        for variable in ours.chain(self.without.iter().copied()) {
            command.env_remove(variable);
        }
        command
            .env(settings::CONFIG_VARIABLE, flat)
            .env("LD_PRELOAD", &self.preload);
        command
    }

    /// Becomes the command. Comes back only if that fails.
    pub(crate) fn execute(&self, flat: &Path) -> LaunchError {
        LaunchError::of_exec(self.path.clone(), self.command(flat).exec())
    }
}
