//! Paths as the router compares them: percent-decoded, without dot segments. What is forwarded is never changed.
//!
//! Servers read paths in different ways, and the one behind a route may read it otherwise than we do. So a path that is not
//! plain is read in all the ways that are known, and counts only where all of them lead to the same route: a guard on
//! one path must not be passed by writing it so that it looks like another.

use std::collections::BTreeSet;

/// The ways in which servers read one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Readings {
    /// By RFC 3986: `%2F` is data, not a separator.
    pub(crate) strict: String,
    /// As some server may read it that is more lenient in any of the points of [`Lenience`].
    pub(crate) others: BTreeSet<String>,
}

/// All readings, or `None` when the path can be read only as it is written, as nearly all can. An error for one that is
/// too long to be read in so many ways.
pub(crate) fn readings(path: &str) -> Result<Option<Readings>, TooLong> {
    let bytes = path.as_bytes();
    let plain = |i: usize, b: u8| match b {
        b'%' | b'\\' | b';' => false,
        b'/' => !matches!(bytes.get(i + 1), Some(b'/' | b'.')),
        _ => true,
    };
    if bytes.iter().enumerate().all(|(i, b)| plain(i, *b)) {
        return Ok(None);
    }
    let strict = without_dots(&decoded(bytes, false), false);
    let mut others = BTreeSet::new();
    for (path, merge) in leniently(bytes)? {
        others.insert(without_dots(&path, merge));
    }
    others.remove(&strict);
    Ok(Some(Readings { strict, others }))
}

/// May some server find a `..` in it?
pub(crate) fn may_climb(path: &str) -> bool {
    // Nearly no path has what it takes.
    let suspicious = path.contains("..") || path.contains('%');
    let climbs = |path: &[u8]| path.split(|b| *b == b'/').any(|segment| segment == b"..");
    suspicious
        && leniently(path.as_bytes()).map_or(true, |readings| readings.iter().any(|(path, _)| climbs(path)))
}

/// A segment as RFC 3986 reads it.
pub(crate) fn decoded_once(segment: &str) -> Vec<u8> {
    decoded(segment.as_bytes(), false)
}

/// Rounds of decoding after which no server decodes again.
const ROUNDS: usize = 4;
/// Bytes of all readings of one path together: more is a path that nobody writes.
const MOST_BYTES: usize = 256 << 10;

/// So many readings of so long a path cost more than it can be worth.
#[derive(Debug)]
pub(crate) struct TooLong;

/// What a server may do to a path beside decoding it, each or not.
#[derive(Debug, Clone, Copy)]
struct Lenience {
    /// `%2F` and `%5C`, and `\` as it is, separate.
    separators: bool,
    /// What follows a `;` in a segment vanishes: before decoding, afterwards, or not at all.
    parameters: Parameters,
    /// A NUL ends it.
    ends: bool,
    /// Empty segments vanish.
    merge: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameters {
    Stay,
    GoBefore,
    GoAfter,
}

/// The path in all readings, dots not yet removed, and whether empty segments vanish in it. What makes no difference for this path
/// isn't tried.
fn leniently(path: &[u8]) -> Result<BTreeSet<(Vec<u8>, bool)>, TooLong> {
    let mut readings = BTreeSet::new();
    let mut bytes = 0;
    for lenience in Lenience::all() {
        let mut read = path.to_vec();
        if lenience.parameters == Parameters::GoBefore {
            read = without_parameters(&read);
        }
        for _ in 0..ROUNDS {
            let next = decoded(&read, lenience.separators);
            let is_last = next == read;
            read = next;
            let done = (lenience.finish(&read), lenience.merge);
            bytes += path.len();
            if bytes > MOST_BYTES {
                return Err(TooLong);
            }
            readings.insert(done);
            if is_last {
                break;
            }
        }
    }
    Ok(readings)
}

impl Lenience {
    fn all() -> impl Iterator<Item = Self> {
        let both = [false, true];
        let parameters = [Parameters::Stay, Parameters::GoBefore, Parameters::GoAfter];
        both.into_iter().flat_map(move |separators| {
            parameters.into_iter().flat_map(move |parameters| {
                both.into_iter().flat_map(move |ends| {
                    both.into_iter().map(move |merge| Self {
                        separators,
                        parameters,
                        ends,
                        merge,
                    })
                })
            })
        })
    }

    fn finish(self, read: &[u8]) -> Vec<u8> {
        let end = read.iter().position(|b| *b == 0).filter(|_| self.ends);
        let read = &read[..end.unwrap_or(read.len())];
        match self.parameters {
            Parameters::GoAfter => without_parameters(read),
            Parameters::Stay | Parameters::GoBefore => read.to_vec(),
        }
    }
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|b| *b == b'/');
    let bare = segments.map(|segment| segment.split(|b| *b == b';').next().unwrap_or(segment));
    bare.collect::<Vec<_>>().join(&b'/')
}

/// Percent-decoded once. Broken escapes stay as they are.
fn decoded(path: &[u8], separators: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%'
            && let Some((&[high, low], after)) = tail.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            let byte = high << 4 | low;
            match byte {
                b'/' | b'\\' if separators => out.push(b'/'),
                b'/' => out.extend_from_slice(b"%2F"),
                b'\\' => out.extend_from_slice(b"%5C"),
                _ => out.push(byte),
            }
            rest = after;
            continue;
        }
        out.push(if separators && first == b'\\' { b'/' } else { first });
        rest = tail;
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986 §5.2.4; never climbs above the root.
fn without_dots(path: &[u8], merge: bool) -> String {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|b| *b == b'/') {
        ends_in_folder = matches!(segment, b"." | b".." | b"");
        match segment {
            b"." => {}
            b".." => {
                kept.pop();
            }
            b"" if merge => {}
            _ => kept.push(segment),
        }
    }
    if kept.last().is_some_and(|last| last.is_empty()) {
        ends_in_folder = false;
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if ends_in_folder || out.is_empty() {
        out.push(b'/');
    }
    String::from_utf8_lossy(&out).into_owned()
}
