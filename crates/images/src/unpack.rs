//! The confined child: everything that decompresses or parses an archive happens in here.
//!
//! It is started as `<binary> unpack` by [`crate::sandbox`], with the archive or layer as standard input and one
//! socket as standard output, and lives for one task.

mod archive;
mod confine;
mod entries;
mod layer;
mod place;
mod stream;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::protocol::{Report, Task, Work};
use stream::Stream;

/// The program of the role `unpack`. It must be called before the process has started a second thread.
pub fn unpack_main() -> ExitCode {
    let Ok(mut channel) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else {
        return ExitCode::FAILURE;
    };
    let report = match confine::enter(&mut channel) {
        Ok(task) => perform(&task).unwrap_or_else(|reason| Report::Failed { reason }),
        Err(error) => Report::Failed {
            reason: chain(&error),
        },
    };
    match serde_json::to_writer(io::BufWriter::new(&channel), &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(task: &Task) -> Result<Report, String> {
    let input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|e| chain(&e))?;
    let mut stream = Stream::open(input, task.max_bytes).map_err(|e| chain(&e))?;
    match &task.work {
        Work::Archive => {
            let members = archive::split(&mut stream, task.max_bytes).map_err(|e| chain(&e))?;
            stream.finish().map_err(|e| chain(&e))?;
            Ok(Report::Archive { members })
        }
        Work::Layer { root } => {
            layer::unpack(&mut stream, *root, task.max_bytes).map_err(|e| chain(&e))?;
            Ok(Report::Layer {
                diff_id: stream.finish().map_err(|e| chain(&e))?,
            })
        }
        Work::Verify => {
            io::copy(&mut stream.by_ref(), &mut io::sink()).map_err(|e| chain(&e))?;
            Ok(Report::Layer {
                diff_id: stream.finish().map_err(|e| chain(&e))?,
            })
        }
    }
}

/// An error and its causes in one line: only text can leave the child.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A name from an archive, made fit to be shown: what isn't printable is escaped, what is long is cut.
fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name)
        .chars()
        .flat_map(char::escape_debug)
        .take(300)
        .collect();
    text
}
