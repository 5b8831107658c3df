//! `linkspan exec`.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use linkspan_api::client::{Client, ClientError, ExecInput, ExecOutput, Output};
use linkspan_api::v1::ExecRequest;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Misuse, WithStatus};
use crate::pick::pick_one;
use crate::raw::RawMode;
use crate::source;
use crate::terminal::{self, complain_bytes, print_bytes};

/// The daemon, or we, could not run the program (as Docker).
const NOT_RUN: u8 = 125;
/// The program is there, but no program.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

/// Run a program in a container that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan exec web ls -l /
  linkspan exec -it web sh

Exits with the program's status; 125 if it could not be run, 126 if it is no program, 127 if it isn't there.")]
pub(crate) struct Exec {
    /// Give it a terminal
    #[arg(short = 't', long = "tty")]
    pub(crate) terminal: bool,
    /// Give it our standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// An environment variable; without a value, ours
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// The working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who to be: a name or uid, with a group or gid if wanted
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// A name, an id, or a name in the site's file
    container: String,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        match self.session(client).await {
            Ok(status) => Ok(ExitCode::from(status)),
            Err(error) if error.is::<terminal::Closed>() => Err(error),
            Err(error) => Err(WithStatus {
                status: status_of(&error),
                error,
            }
            .into()),
        }
    }

    async fn session(self, client: &Client) -> anyhow::Result<u8> {
        if self.terminal && self.interactive && !io::stdin().is_terminal() {
            return Err(Misuse::new("standard input is no terminal; leave `-t` away").into());
        }
        let all = client.containers(true).await?;
        let container = pick_one(&all, &self.container, source::project_here().as_deref())?;
        let request = ExecRequest {
            command: self.command,
            env: environment(&self.env, |key| std::env::var(key).ok()),
            cwd: self.workdir,
            user: self.user,
            terminal: self.terminal,
            size: if self.terminal { terminal::size() } else { None },
            stdin: self.interactive,
        };
        // Ready before the program starts, so that no change of size is missed.
        let resizes = if self.terminal {
            Some(watch(SignalKind::window_change())?)
        } else {
            None
        };
        let (input, output) = client.exec(&container.id, &request).await?;
        let borrowed = self.terminal && io::stdin().is_terminal();
        // Before the terminal changes: from then on a signal must not end us unseen.
        let mut ending = Ending::watch(borrowed)?;
        let raw = if borrowed {
            Some(RawMode::enter().context("cannot put the terminal into raw mode")?)
        } else {
            None
        };
        let keys = if self.interactive {
            Some(read_stdin())
        } else {
            None
        };
        let status = tokio::select! {
            status = receive(output) => status,
            never = send(input, keys, resizes) => match never {},
            status = ending.caught() => Ok(status),
        };
        drop(raw);
        status
    }
}

/// Prints what comes, until the exit status does.
async fn receive(mut output: ExecOutput) -> anyhow::Result<u8> {
    while let Some(piece) = output.next_output().await? {
        match piece {
            Output::Stdout(bytes) => print_bytes(&bytes)?,
            Output::Stderr(bytes) => complain_bytes(&bytes),
            // Statuses are bytes; whatever else comes must not look like success.
            Output::Exit(status) => return Ok(u8::try_from(status).unwrap_or(NOT_RUN)),
        }
    }
    anyhow::bail!("the daemon broke off before the program ended")
}

/// Sends keys and sizes for ever; what can't be sent no longer matters, for the other direction tells why.
async fn send(
    mut input: ExecInput,
    mut keys: Option<mpsc::Receiver<Vec<u8>>>,
    mut resizes: Option<Signal>,
) -> std::convert::Infallible {
    loop {
        let sent = tokio::select! {
            Some(()) = changed(&mut resizes) => match terminal::size() {
                Some((rows, columns)) => input.resize(rows, columns).await,
                None => Ok(()),
            },
            Some(piece) = pressed(&mut keys) => match piece {
                Some(piece) => input.stdin(&piece).await,
                None => {
                    keys = None;
                    input.close_stdin().await
                }
            },
        };
        if sent.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn changed(resizes: &mut Option<Signal>) -> Option<()> {
    match resizes {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Outer `None` never comes; inner `None` is the end of the input.
async fn pressed(keys: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Option<Vec<u8>>> {
    match keys {
        Some(keys) => Some(keys.recv().await),
        None => std::future::pending().await,
    }
}

/// Standard input from a thread of its own: a read of it can't be cancelled, and ends with the process at the latest.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if send.blocking_send(buffer[..count].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receive
}

/// Signals that end us while the terminal is raw: it must be put back first.
struct Ending(Option<[(Signal, u8); 3]>);

impl Ending {
    fn watch(raw: bool) -> anyhow::Result<Self> {
        if !raw {
            return Ok(Self(None));
        }
        Ok(Self(Some([
            (watch(SignalKind::terminate())?, 15),
            (watch(SignalKind::hangup())?, 1),
            (watch(SignalKind::interrupt())?, 2),
        ])))
    }

    /// The exit status that says which signal it was.
    async fn caught(&mut self) -> u8 {
        let Some([(term, a), (hup, b), (int, c)]) = &mut self.0 else {
            return std::future::pending().await;
        };
        let number = tokio::select! {
            _ = term.recv() => *a,
            _ = hup.recv() => *b,
            _ = int.recv() => *c,
        };
        // Bytes on the way to the terminal get there before it changes back.
        tokio::time::sleep(Duration::from_millis(10)).await;
        128 + number
    }
}

fn watch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot watch for signals")
}

/// `KEY` alone takes our value, and is left out when we have none.
fn environment(typed: &[String], ours: impl Fn(&str) -> Option<String>) -> Vec<String> {
    typed
        .iter()
        .filter_map(|entry| match entry.contains('=') {
            true => Some(entry.clone()),
            false => ours(entry).map(|value| format!("{entry}={value}")),
        })
        .collect()
}

/// Docker's statuses for programs that did not run.
fn status_of(error: &anyhow::Error) -> u8 {
    if error.is::<Misuse>() {
        return 2;
    }
    let words = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Reported(words)) => words.as_str(),
        Some(ClientError::Failed(failure, _)) => failure.message.as_str(),
        _ => return NOT_RUN,
    };
    let words = words.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if says(&[
        "executable file not found",
        "no such program",
        "no such file",
        "program not found",
    ]) {
        NOT_FOUND
    } else if says(&[
        "permission denied",
        "not executable",
        "exec format error",
        "is a directory",
    ]) {
        NOT_EXECUTABLE
    } else {
        NOT_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_value_takes_ours() {
        let typed = [
            "A=1".to_owned(),
            "HOME".to_owned(),
            "NOPE".to_owned(),
            "B=".to_owned(),
        ];
        let ours = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        assert_eq!(environment(&typed, ours), ["A=1", "HOME=/root", "B="]);
    }

    #[test]
    fn programs_that_do_not_run_have_dockers_statuses() {
        let reported = |words: &str| status_of(&ClientError::Reported(words.to_owned()).into());
        assert_eq!(
            reported("exec: \"nope\": executable file not found in $PATH"),
            127
        );
        assert_eq!(reported("`/bin/nope`: No such file or directory"), 127);
        assert_eq!(reported("`/etc/passwd`: Permission denied"), 126);
        assert_eq!(reported("the container is paused"), 125);
        assert_eq!(status_of(&anyhow::anyhow!("lost")), 125);
        assert_eq!(status_of(&Misuse::new("no").into()), 2);
    }
}
