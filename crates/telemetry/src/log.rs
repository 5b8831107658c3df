//! Log lines on stderr: for a person at a terminal, or for the journal.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// The variable that says what is logged: `debug`, or `info,linkspan_proxy=trace`. `info` when it is not set.
const FILTER_VARIABLE: &str = "LINKSPAN_LOG";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// [`Human`](Self::Human) on a terminal, else [`Plain`](Self::Plain).
    #[default]
    Auto,
    /// Short, in colour.
    Human,
    /// One line of text with its time in UTC.
    Plain,
    /// One JSON object a line.
    Json,
}

/// A log format that isn't one.
#[derive(Debug, thiserror::Error)]
#[error("log format `{0}` is not one of `auto`, `human`, `plain`, `json`")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(FormatError(text.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter in the environment.
    #[error(
        "`{FILTER_VARIABLE}` is not a log filter: write a level such as `debug`, or `info,linkspan_proxy=trace`"
    )]
    Filter(#[source] ParseError),
    /// Set up twice.
    #[error("logging is set up already")]
    Twice(#[source] TryInitError),
}

/// Sends the log lines of this process to stderr. `role` is the program's part: `netd`, `proxy`, `shim`, `cli`.
///
/// # Errors
/// When `LINKSPAN_LOG` can't be read as a filter, or logging is set up already.
pub fn init(role: &'static str, format: Format) -> Result<(), InitError> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref()).map_err(InitError::Filter)?;
    let subscriber = tracing_subscriber::registry().with(lines(format).with_filter(filter));
    subscriber.try_init().map_err(InitError::Twice)?;
    tracing::debug!(role, "logging to stderr");
    Ok(())
}

fn filter(text: Option<&str>) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(text.unwrap_or_default())
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let format = match format {
        Format::Auto if io::stderr().is_terminal() => Format::Human,
        Format::Auto => Format::Plain,
        format => format,
    };
    let layer = fmt::layer().with_writer(io::stderr);
    match format {
        Format::Human => layer.without_time().with_target(false).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Auto | Format::Plain => layer.with_ansi(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_the_default_and_one_module_can_be_louder() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        let louder = filter(Some("linkspan_proxy=trace")).unwrap();
        assert_eq!(louder.max_level_hint(), Some(LevelFilter::TRACE));
        assert!(filter(Some("linkspan=nonsense")).is_err());
    }

    #[test]
    fn an_unknown_format_names_those_there_are() {
        assert_eq!(
            "xml".parse::<Format>().unwrap_err().to_string(),
            "log format `xml` is not one of `auto`, `human`, `plain`, `json`"
        );
    }

    #[test]
    fn setting_up_twice_is_an_error_and_not_a_panic() {
        init("test", Format::Json).unwrap();
        assert!(matches!(init("test", Format::Plain), Err(InitError::Twice(_))));
    }
}
