//! The decompressed bytes: counted against the limit and hashed as they pass.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Largest zstd window that is accepted, as a power of two: 128 MiB, what `zstd --long` makes.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 256 * 1024;

/// A decompressed archive.
pub(super) struct Stream {
    inner: Box<dyn Read>,
    hash: Sha256,
    count: u64,
    max: u64,
}

impl Stream {
    /// Looks at the first bytes of `input` and picks the decompressor.
    pub(super) fn open(mut input: File, max: u64) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(6);
        input.by_ref().take(6).read_to_end(&mut magic)?;
        let compression = Compression::of(&magic)?;
        let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(input));
        let inner: Box<dyn Read> = match compression {
            Compression::None => Box::new(whole),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(whole)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        };
        Ok(Self {
            inner,
            hash: Sha256::new(),
            count: 0,
            max,
        })
    }

    /// Reads what is left, so that the digest covers every byte, and gives `sha256:…`.
    pub(super) fn finish(mut self) -> io::Result<String> {
        let mut rest = vec![0; BUFFER];
        while self.read(&mut rest)? != 0 {}
        Ok(format!("sha256:{}", hex::encode(self.hash.finalize())))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        if self.count > self.max {
            return Err(io::Error::other(format!(
                "holds more than {} bytes, decompressed",
                self.max
            )));
        }
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> io::Result<Self> {
        let unsupported = |name| {
            let text = format!("is compressed with {name}, which is not supported; use gzip, zstd or none");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a skippable frame, with which some writers begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }
}
