//! What every role says about itself: log lines on stderr, and error chains printed once.

mod chain;
mod log;

pub use chain::chain;
pub use log::{Format, FormatError, InitError, init};
