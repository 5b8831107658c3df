//! The command line: what was typed becomes calls to the daemon, and answers become text or JSON.

mod args;
mod failure;
mod filter;
mod follow;
mod live;
mod pick;
mod plan_text;
mod quantity;
mod raw;
mod source;
mod table;
mod terminal;
mod verbs;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use linkspan_api::client::Client;

use crate::args::{Cli, Verb};

/// What the process is to do next.
#[derive(Debug)]
pub enum Role {
    /// Become the daemon; nothing was started yet: no thread, no runtime.
    Daemon(DaemonArgs),
    /// Nothing: the command is done.
    Done(ExitCode),
}

/// What `linkspan daemon` was given, paths made absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonArgs {
    /// Sockets and namespaces.
    pub run_dir: PathBuf,
    /// Everything that outlives a reboot.
    pub state_dir: PathBuf,
    /// The daemon's settings, when a file was named.
    pub config: Option<PathBuf>,
    /// Where to listen for HTTP; empty means as the settings say.
    pub http: Vec<SocketAddr>,
    /// Where to listen for HTTPS; empty means as the settings say.
    pub https: Vec<SocketAddr>,
}

/// Runs a command line, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Role {
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that went away is no reason to complain.
            let _ = error.print();
            return Role::Done(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    match cli.verb {
        Verb::Daemon(daemon) => match daemon.resolve(&cli.run_dir) {
            Ok(args) => Role::Daemon(args),
            Err(error) => Role::Done(failure::report(&error)),
        },
        verb => Role::Done(run_verb(verb, &Client::new(&cli.run_dir))),
    }
}

fn run_verb(verb: Verb, client: &Client) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let code = runtime.block_on(async {
        match verb.run(client).await {
            Ok(code) => code,
            Err(error) => failure::report(&error),
        }
    });
    // A read of standard input may hang for ever; nothing else is left to wait for.
    runtime.shutdown_background();
    code
}
