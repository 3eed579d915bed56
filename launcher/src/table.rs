//! `socks6 table`.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use fake_dns::{Table, TableError};
use socks_client::TablePlace;

use crate::args::TableArgs;
use crate::error::LaunchError;
use crate::say::print;
use crate::settings::Settings;

/// Says where the mapping table is, and how full.
///
/// # Errors
/// If there is none, or it is somebody else's.
pub(crate) fn table(args: &TableArgs) -> Result<ExitCode, LaunchError> {
    let config = Settings::without_gateways(&args.settings)?;
    let wrong = |place: String| {
        move |error: TableError| LaunchError::Setting {
            place,
            what: error.to_string(),
        }
    };
    let (table, path) = match config.table {
        TablePlace::Private => {
            print("private: each run has its own, in memory");
            return Ok(ExitCode::SUCCESS);
        }
        TablePlace::Path(path) => {
            let opened = Table::open(&path, &config.ranges);
            (opened.map_err(wrong(path.display().to_string()))?, path)
        }
        TablePlace::Default => {
            let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            Table::open_default(runtime_dir.as_deref(), &config.ranges)
                .map_err(wrong("mapping table".into()))?
        }
    };
    print(format_args!(
        "{}: {} names of {}",
        path.display(),
        table.len(),
        table.capacity()
    ));
    Ok(ExitCode::SUCCESS)
}
