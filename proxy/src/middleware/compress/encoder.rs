//! Compresses a body piece by piece, and lets go of what it has whenever the upstream pauses.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Coding;

/// For bytes that come by the way; each is about where another step stops paying.
const GZIP_LEVEL: u32 = 5;
const BROTLI_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// Log2 of the bytes that are kept for references back, as Brotli's: more is memory for each answer under way.
const ZSTD_WINDOW: u32 = 19;
/// Of Brotli, as a power of two: what a window costs in memory for every answer under way.
const BROTLI_WINDOW: u32 = 19;
const BROTLI_BUFFER: usize = 4096;

/// A body under way.
pub(crate) struct Encoder {
    writer: Option<Writer>,
    /// Something was written and not flushed.
    dirty: bool,
}

enum Writer {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        let out = Vec::new();
        let writer = match coding {
            Coding::Gzip => Writer::Gzip(GzEncoder::new(out, Compression::new(GZIP_LEVEL))),
            Coding::Brotli => Writer::Brotli(Box::new(CompressorWriter::new(
                out,
                BROTLI_BUFFER,
                BROTLI_LEVEL,
                BROTLI_WINDOW,
            ))),
            Coding::Zstd => {
                let mut writer = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                writer.window_log(ZSTD_WINDOW)?;
                Writer::Zstd(writer)
            }
        };
        Ok(Self {
            writer: Some(writer),
            dirty: false,
        })
    }

    /// Takes a piece in; what comes out may be nothing yet.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.dirty |= !piece.is_empty();
        match &mut self.writer {
            Some(Writer::Gzip(writer)) => writer.write_all(piece)?,
            Some(Writer::Brotli(writer)) => writer.write_all(piece)?,
            Some(Writer::Zstd(writer)) => writer.write_all(piece)?,
            None => return Err(ended()),
        }
        Ok(self.take())
    }

    /// All that can be decoded of what was taken in; nothing if there is nothing new.
    pub(crate) fn flush(&mut self) -> io::Result<Bytes> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(Bytes::new());
        }
        match &mut self.writer {
            Some(Writer::Gzip(writer)) => writer.flush()?,
            Some(Writer::Brotli(writer)) => writer.flush()?,
            Some(Writer::Zstd(writer)) => writer.flush()?,
            None => return Err(ended()),
        }
        Ok(self.take())
    }

    /// The rest.
    pub(crate) fn finish(&mut self) -> io::Result<Bytes> {
        let out = match self.writer.take() {
            Some(Writer::Gzip(writer)) => writer.finish()?,
            Some(Writer::Brotli(writer)) => writer.into_inner(),
            Some(Writer::Zstd(writer)) => writer.finish()?,
            None => return Err(ended()),
        };
        Ok(Bytes::from(out))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.writer.is_none()
    }

    fn take(&mut self) -> Bytes {
        let out = match &mut self.writer {
            Some(Writer::Gzip(writer)) => writer.get_mut(),
            Some(Writer::Brotli(writer)) => writer.get_mut(),
            Some(Writer::Zstd(writer)) => writer.get_mut(),
            None => return Bytes::new(),
        };
        Bytes::from(std::mem::take(out))
    }
}

fn ended() -> io::Error {
    io::Error::other("the body has ended")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Of a body that has not ended, what there is comes out before the error.
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out),
        };
        out
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end_and_all_of_it_after() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut out = encoder.push(b"data: first\n\n").unwrap().to_vec();
            out.extend(encoder.flush().unwrap());
            assert_eq!(decoded(coding, &out), b"data: first\n\n", "{coding:?}");
            assert!(encoder.flush().unwrap().is_empty(), "{coding:?}: nothing new");
            let large = b"0123456789".repeat(20_000);
            out.extend(encoder.push(&large).unwrap());
            out.extend(encoder.finish().unwrap());
            assert!(
                encoder.is_finished() && out.len() < 10_000,
                "{coding:?}: {}",
                out.len()
            );
            assert_eq!(
                decoded(coding, &out),
                [b"data: first\n\n".as_slice(), &large].concat()
            );
        }
    }
}
