//! What the headers before an entry say about it.

use super::{EntryError, MAX_PIECES};

/// Longest path, in bytes: the kernel's own limit.
const MAX_PATH: usize = 4096;

/// Collected long names and PAX records; a PAX record wins over a header field.
#[derive(Debug, Default)]
pub(in crate::unpack) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
    seen: bool,
}

/// GNU's sparse formats in PAX records, 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// Bytes of the unpacked file.
    pub(super) size: u64,
    /// Absent in format 1.0, where the map is in the data.
    pub(super) pieces: Option<Vec<(u64, u64)>>,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        !self.seen
    }

    pub(super) fn long_name(&mut self, data: Vec<u8>) {
        self.seen = true;
        self.path = Some(until_nul(data));
    }

    pub(super) fn long_link(&mut self, data: Vec<u8>) {
        self.seen = true;
        self.link = Some(until_nul(data));
    }

    /// Reads records `LENGTH KEY=VALUE\n`; the length counts itself, and the value may hold any byte.
    pub(super) fn pax(&mut self, mut data: &[u8]) -> Result<(), EntryError> {
        let malformed = || EntryError::Malformed("PAX records");
        self.seen = true;
        // Some writers pad with NUL.
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
            let length: usize = number(&data[..space]).ok_or_else(malformed)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(malformed());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        if self.path.as_ref().is_some_and(|path| path.len() > MAX_PATH) {
            return Err(EntryError::TooLong("path"));
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        let malformed = || EntryError::Malformed("PAX records");
        let count = || number(value).ok_or_else(malformed);
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(count()?),
            b"uid" => self.uid = Some(count()?),
            b"gid" => self.gid = Some(count()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(malformed)?),
            b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse().size = count()?,
            b"GNU.sparse.offset" => {
                let offset = count()?;
                self.pieces().push((offset, 0));
            }
            b"GNU.sparse.numbytes" => {
                let length = count()?;
                self.pieces().last_mut().ok_or_else(malformed)?.1 = length;
            }
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(number).collect();
                let numbers = numbers.filter(|n| n.len() % 2 == 0).ok_or_else(malformed)?;
                *self.pieces() = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        if self
            .sparse
            .as_ref()
            .and_then(|s| s.pieces.as_ref())
            .is_some_and(|p| p.len() > MAX_PIECES)
        {
            return Err(EntryError::TooLong("sparse map"));
        }
        Ok(())
    }

    fn sparse(&mut self) -> &mut Sparse {
        self.sparse.get_or_insert_default()
    }

    fn pieces(&mut self) -> &mut Vec<(u64, u64)> {
        self.sparse().pieces.get_or_insert_default()
    }
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `1712345678.25` as seconds and nanoseconds; before 1970 the fraction still counts forward.
fn time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    match nanoseconds {
        0 => Some((seconds, 0)),
        _ if whole.starts_with('-') => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        _ => Some((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_value_may_hold_newlines() {
        let mut extensions = Extensions::default();
        extensions
            .pax(b"34 SCHILY.xattr.user.x=a\nb\n c=d\xffe\n")
            .unwrap();
        assert_eq!(
            extensions.xattrs,
            [(b"user.x".to_vec(), b"a\nb\n c=d\xffe".to_vec())]
        );
    }

    #[test]
    fn a_time_before_1970_counts_its_fraction_forward() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.x"), None);
    }

    #[test]
    fn a_record_longer_than_its_header_is_refused() {
        assert!(Extensions::default().pax(b"99 path=x\n").is_err());
        assert!(Extensions::default().pax(b"1 path=x\n").is_err());
    }
}
