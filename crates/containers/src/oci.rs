//! `linkspan oci`: an OCI runtime with the usual command line, on youki's `libcontainer`.
//!
//! `create [--bundle D] [--pid-file F] [--console-socket S] ID`, `start ID`, `state ID`, `kill ID [SIGNAL]`,
//! `delete [--force] ID`, `exec --process P [--pid-file F] [--console-socket S] [--detach] ID`; before the verb
//! `--root DIR`. The library clones itself and runs Rust in the clone, which is safe only in a single thread; so this is
//! a role of its own, and nothing in it may start a thread.

mod container;
mod exec;
mod executor;

use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use container::{CreateOptions, create, start};
pub(crate) use exec::{ExecRequest, own_streams};

/// What went wrong, the whole chain in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OciError(pub(crate) String);

impl OciError {
    /// Keeps the causes, which the library leaves out of its texts.
    pub(crate) fn from_chain(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self(text)
    }
}

/// Role `linkspan oci`: call with the arguments after `oci`, before any thread is started.
pub fn oci_main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkspan oci: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), OciError> {
    let line = CommandLine::parse(args)?;
    let root = line
        .path("root")
        .unwrap_or_else(|| PathBuf::from("/run/linkspan/oci"));
    let id = || {
        line.id
            .clone()
            .ok_or_else(|| OciError("name the container".to_owned()))
    };
    match line.verb.as_str() {
        "create" => {
            let bundle = line.path("bundle").map_or_else(std::env::current_dir, Ok);
            let bundle = bundle.map_err(|error| OciError::from_chain(&error))?;
            create(&CreateOptions {
                root,
                bundle,
                id: id()?,
                pid_file: line.path("pid-file"),
                console_socket: line.path("console-socket"),
            })
            .map(drop)
        }
        "start" => start(&root, &id()?),
        "state" => container::state(&root, &id()?).map(|state| println!("{state}")),
        "kill" => container::kill(&root, &id()?, line.rest.first().map_or("TERM", String::as_str)),
        "delete" => container::delete(&root, &id()?, line.has("force")),
        "exec" => exec::command(
            &root,
            &id()?,
            &line
                .path("process")
                .ok_or_else(|| OciError("exec needs --process".to_owned()))?,
            line.path("pid-file"),
            line.path("console-socket"),
            line.has("detach"),
        ),
        verb => Err(OciError(format!(
            "`{verb}` is not a verb of an OCI runtime we know"
        ))),
    }
}

/// A command line as runc's: options may come before and after the verb.
struct CommandLine {
    verb: String,
    id: Option<String>,
    rest: Vec<String>,
    options: Vec<(String, String)>,
}

impl CommandLine {
    fn parse(args: &[String]) -> Result<Self, OciError> {
        const FLAGS: [&str; 6] = ["detach", "d", "force", "f", "debug", "systemd-cgroup"];
        let (mut words, mut options) = (Vec::new(), Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(option) = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .filter(|name| !name.is_empty())
            else {
                words.push(arg.clone());
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if FLAGS.contains(&option) => (option, String::new()),
                None => (
                    option,
                    args.next()
                        .cloned()
                        .ok_or_else(|| OciError(format!("`{arg}` needs a value")))?,
                ),
            };
            let name = match name {
                "b" => "bundle",
                "p" => "process",
                "d" => "detach",
                "f" => "force",
                name => name,
            };
            options.push((name.to_owned(), value));
        }
        let mut words = words.into_iter();
        let verb = words.next().ok_or_else(|| {
            OciError("say what to do: create, start, state, kill, delete or exec".to_owned())
        })?;
        Ok(Self {
            verb,
            id: words.next(),
            rest: words.collect(),
            options,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| known == name)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.options
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| PathBuf::from(value))
    }
}
