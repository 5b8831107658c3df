//! An error with its causes on one line.

use std::error::Error;
use std::fmt::Write as _;

/// `a: b: c`, from the error itself to its first cause.
///
/// Our errors leave their cause out of their own text, so the chain is printed once, where the error leaves the
/// program. Errors of libraries often repeat theirs; what a line ends with already is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !next.is_empty() && !text.ends_with(&next) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let mut texts = texts.iter().rev();
        let first = Layer(texts.next().copied().unwrap_or_default(), None);
        texts.fold(first, |cause, text| Layer(text, Some(Box::new(cause))))
    }

    #[test]
    fn every_cause_is_said_once_in_order() {
        let error = layers(&["can't start `web`", "can't mount `data`", "no such file"]);
        assert_eq!(
            chain(&error),
            "can't start `web`: can't mount `data`: no such file"
        );
    }

    #[test]
    fn a_library_that_repeats_its_cause_is_not_repeated() {
        let error = layers(&["can't connect", "tcp connect error: refused", "refused"]);
        assert_eq!(chain(&error), "can't connect: tcp connect error: refused");
    }
}
