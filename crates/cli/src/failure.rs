//! From an error to the one line on stderr and the exit status.
//!
//! 1: it was tried, and failed. 2: the command line, a file or the state of things forbids it; nothing was changed.

use std::fmt;
use std::process::ExitCode;

use linkspan_api::client::ClientError;

use crate::terminal::{Closed, clean, complain};

/// Something the person who typed can put right; exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(String);

impl Misuse {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The problems of a site file, rendered: printed as they are, without `error:`; exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadSite(pub(crate) String);

/// An exit status that was decided already, with what was to be said said.
#[derive(Debug, thiserror::Error)]
#[error("exit status {0}")]
pub(crate) struct Status(pub(crate) u8);

/// An error with an exit status of its own.
#[derive(Debug)]
pub(crate) struct WithStatus {
    pub(crate) status: u8,
    pub(crate) error: anyhow::Error,
}

impl fmt::Display for WithStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for WithStatus {}

/// Prints an error once, and gives the exit status that goes with it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(text) = text(error) {
        complain(&text);
    }
    ExitCode::from(status(error))
}

/// What to print: the chain on one line, and below it the problems that the daemon found in a file.
fn text(error: &anyhow::Error) -> Option<String> {
    if error.is::<Closed>() || error.is::<Status>() {
        return None;
    }
    if let Some(BadSite(problems)) = error.downcast_ref() {
        return Some(problems.trim_end().to_owned());
    }
    let mut text = format!("error: {error:#}");
    if let Some(ClientError::Failed(failure, _)) = error.downcast_ref() {
        for problem in &failure.problems {
            text.push('\n');
            text.push_str(problem.trim_end());
        }
    }
    // What the daemon says may quote a program or a file.
    let lines: Vec<_> = text.lines().map(clean).collect();
    Some(lines.join("\n"))
}

fn status(error: &anyhow::Error) -> u8 {
    // A reader that has seen enough (`| head`) is no failure.
    if error.is::<Closed>() {
        return 0;
    }
    if let Some(Status(status)) = error.downcast_ref() {
        return *status;
    }
    if let Some(with) = error.downcast_ref::<WithStatus>() {
        return with.status;
    }
    let misuse = error.is::<Misuse>() || error.is::<BadSite>();
    let refused = error
        .downcast_ref::<ClientError>()
        .is_some_and(|e| e.is_refusal() || e.is_unreachable());
    if misuse || refused { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::anyhow;
    use linkspan_api::v1::Failure;

    use super::*;

    fn refused(code: u16) -> anyhow::Error {
        let failure = Failure {
            message: "no".to_owned(),
            problems: vec!["a:1:1: bad\n".to_owned()],
        };
        ClientError::Failed(failure, code.try_into().unwrap()).into()
    }

    #[test]
    fn a_failure_is_1_and_a_refusal_is_2() {
        assert_eq!(status(&anyhow!("disk on fire")), 1);
        assert_eq!(status(&refused(500)), 1);
        assert_eq!(status(&refused(409)), 2);
        assert_eq!(status(&refused(422).context("cannot bring `shop` up")), 2);
        assert_eq!(status(&Misuse::new("no such file").into()), 2);
        assert_eq!(status(&ClientError::NoDaemon { path: PathBuf::new() }.into()), 2);
        assert_eq!(
            status(
                &WithStatus {
                    status: 127,
                    error: anyhow!("not found")
                }
                .into()
            ),
            127
        );
        assert_eq!(status(&Closed.into()), 0);
    }

    #[test]
    fn the_chain_is_one_line_and_problems_follow_it() {
        let error = anyhow!("b: not now").context("a");
        assert_eq!(text(&error).unwrap(), "error: a: b: not now");
        assert_eq!(text(&refused(422)).unwrap(), "error: no\na:1:1: bad");
        assert_eq!(text(&Closed.into()), None);
    }
}
