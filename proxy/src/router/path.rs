//! Paths as the router compares them: percent-decoded, without dot segments. What is forwarded is never changed.

/// Two readings of one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forms {
    /// By RFC 3986: `%2F` is data, not a separator.
    pub(crate) strict: String,
    /// As the most lenient server may read it: `%2F`, `%5C` and `\` separate, escapes of escapes are undone, empty
    /// segments and `;parameters` vanish, a NUL ends it.
    pub(crate) loose: String,
}

/// Both readings, or `None` when the path can be read only as it is written, as nearly all can.
pub(crate) fn forms(path: &str) -> Option<Forms> {
    let bytes = path.as_bytes();
    let plain = |i: usize, b: u8| match b {
        b'%' | b'\\' | b';' => false,
        b'/' => !matches!(bytes.get(i + 1), Some(b'/' | b'.')),
        _ => true,
    };
    if bytes.iter().enumerate().all(|(i, b)| plain(i, *b)) {
        return None;
    }
    let strict = without_dots(&decoded(bytes, false), false);
    let loose = without_dots(&lenient(bytes), true);
    Some(Forms { strict, loose })
}

/// May some server find a `..` in it?
pub(crate) fn may_climb(path: &str) -> bool {
    // Nearly no path has what it takes.
    let suspicious = path.contains("..") || path.contains('%');
    suspicious
        && lenient(path.as_bytes())
            .split(|b| *b == b'/')
            .any(|segment| segment == b"..")
}

/// A segment as RFC 3986 reads it.
pub(crate) fn decoded_once(segment: &str) -> Vec<u8> {
    decoded(segment.as_bytes(), false)
}

/// Rounds of decoding after which no server decodes again.
const ROUNDS: usize = 4;

fn lenient(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    for _ in 0..ROUNDS {
        let next = decoded(&path, true);
        if next == path {
            break;
        }
        path = next;
    }
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    let segments = path[..end].split(|b| *b == b'/');
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
