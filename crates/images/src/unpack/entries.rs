//! The entries of a tar stream, with what follows their headers merged in: GNU long names, PAX records, sparse maps.
//!
//! The `tar` crate decodes the headers. The walk over them is ours, because its own has no limit for long names and
//! PAX records, splits binary PAX values at newlines (file capabilities hold such bytes) and knows one of the four
//! sparse formats. See POSIX pax(1) and GNU tar's manual, appendix *Tar Internals*.

mod extensions;
mod sparse;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tar::{EntryType, Header};

pub(super) use extensions::Extensions;

const BLOCK: u64 = 512;
/// Most bytes of a long name's or of PAX records' data.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;
const BUFFER: usize = 128 * 1024;

/// Why the stream can't be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    /// The stream itself failed: cut short or wrongly compressed.
    #[error("can't be read to its end; it is cut short or damaged")]
    Read(#[source] io::Error),
    /// A header can't be decoded.
    #[error("is not a tar archive, or is damaged, at entry {number}")]
    Header {
        /// Counted from 1.
        number: u64,
        #[source]
        source: io::Error,
    },
    /// A header's checksum is wrong.
    #[error("is not a tar archive, or is damaged: the checksum of entry {number} is wrong")]
    Checksum {
        /// Counted from 1.
        number: u64,
    },
    /// The stream ended inside of an entry.
    #[error("is cut short")]
    Short,
    /// Something that must be small isn't.
    #[error("has an entry whose {0} is too long")]
    TooLong(&'static str),
    /// Records that contradict themselves.
    #[error("has an entry with malformed {0}")]
    Malformed(&'static str),
    /// An entry of a kind nobody writes into layers.
    #[error("has an entry of unknown type `{0}`")]
    UnknownType(char),
    /// More bytes of files than allowed.
    #[error("holds files of more than {0} bytes")]
    TooLarge(u64),
    /// The file being written failed.
    #[error("can't be written")]
    Write(#[source] io::Error),
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Fifo,
    Device,
}

/// One entry, complete but for its data.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file once unpacked.
    pub(super) size: u64,
    /// Where the data belongs, as offset and length, when it isn't all of the file.
    pieces: Option<Vec<(u64, u64)>>,
}

/// Reads entries one after another.
pub(super) struct Entries<'a, R> {
    input: &'a mut R,
    number: u64,
    /// Data of the current entry not read yet, and the padding after it.
    left: u64,
    padding: u64,
    /// Bytes that files may still take.
    budget: u64,
    max: u64,
}

impl<'a, R: Read> Entries<'a, R> {
    /// `max` bounds the sum of all files' sizes, holes included, in bytes.
    pub(super) fn new(input: &'a mut R, max: u64) -> Self {
        Self {
            input,
            number: 0,
            left: 0,
            padding: 0,
            budget: max,
            max,
        }
    }

    /// The next entry, or none at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, EntryError> {
        let mut extensions = Extensions::default();
        loop {
            if self.skip(self.left)? < self.left {
                return Err(EntryError::Short);
            }
            // The padding after the last entry is missing in what some writers make (umoci is one).
            self.skip(self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(EntryError::Short)
                };
            };
            let decode = |source| EntryError::Header {
                number: self.number,
                source,
            };
            let kind = header.entry_type();
            let mut size = header.entry_size().map_err(decode)?;
            let describes =
                kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
            if !describes && !kind.is_pax_global_extensions() {
                size = extensions.size.unwrap_or(size);
            }
            self.left = size;
            self.padding = size
                .checked_next_multiple_of(BLOCK)
                .ok_or(EntryError::Malformed("size"))?
                - size;
            if kind.is_pax_global_extensions() {
                // Defaults for all entries; the only use that is seen is a comment with a commit's id.
                continue;
            }
            if !describes {
                return self.entry(&header, extensions).map(Some);
            }
            let data = self.small(MAX_EXTENSION)?;
            match kind {
                EntryType::GNULongName => extensions.long_name(data),
                EntryType::GNULongLink => extensions.long_link(data),
                _ => extensions.pax(&data)?,
            }
        }
    }

    /// Copies the current entry's data into `file`, which is new and empty; holes stay holes.
    pub(super) fn copy(&mut self, entry: &Entry, file: &mut File) -> Result<(), EntryError> {
        self.budget = self
            .budget
            .checked_sub(entry.size)
            .ok_or(EntryError::TooLarge(self.max))?;
        let mut buffer = vec![0; BUFFER.min(usize::try_from(entry.size).unwrap_or(BUFFER))];
        let Some(pieces) = &entry.pieces else {
            return self.copy_piece(entry.size, file, &mut buffer);
        };
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(*offset)).map_err(EntryError::Write)?;
            self.copy_piece(*length, file, &mut buffer)?;
        }
        file.set_len(entry.size).map_err(EntryError::Write)
    }

    fn copy_piece(&mut self, mut length: u64, file: &mut File, buffer: &mut [u8]) -> Result<(), EntryError> {
        while length > 0 {
            let want = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let read = self.data(&mut buffer[..want])?;
            file.write_all(&buffer[..read]).map_err(EntryError::Write)?;
            length -= read as u64;
        }
        Ok(())
    }

    /// Reads some of the current entry's data; none left is an error.
    fn data(&mut self, buffer: &mut [u8]) -> Result<usize, EntryError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.input.read(&mut buffer[..want]) {
            Ok(0) => Err(EntryError::Short),
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) => Err(EntryError::Read(error)),
        }
    }

    /// All data of an entry that must be small.
    fn small(&mut self, max: u64) -> Result<Vec<u8>, EntryError> {
        if self.left > max {
            return Err(EntryError::TooLong("name or extended header"));
        }
        let mut data = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.data_exact(&mut data)?;
        Ok(data)
    }

    fn data_exact(&mut self, buffer: &mut [u8]) -> Result<(), EntryError> {
        let mut done = 0;
        while done < buffer.len() {
            done += self.data(&mut buffer[done..])?;
        }
        Ok(())
    }

    /// Reads over this many bytes, or fewer at the end; gives how many.
    fn skip(&mut self, bytes: u64) -> Result<u64, EntryError> {
        io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink()).map_err(EntryError::Read)
    }

    /// The next header; none at the end, which is a block of zeros or, as many writers leave it, nothing at all.
    fn header(&mut self) -> Result<Option<Header>, EntryError> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]).map_err(EntryError::Read)? {
                0 if filled == 0 && self.number > 0 => return Ok(None),
                0 => return Err(EntryError::Short),
                read => filled += read,
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let found = sum(&bytes[..148]) + sum(&bytes[156..]) + 8 * u32::from(b' ');
        let stated = header
            .cksum()
            .map_err(|source| EntryError::Header { number, source })?;
        if found == stated {
            Ok(Some(header))
        } else {
            Err(EntryError::Checksum { number })
        }
    }

    /// Puts header and extensions together.
    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, EntryError> {
        let number = self.number;
        let decode = |source| EntryError::Header { number, source };
        let path = extensions
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let link = extensions
                .link
                .clone()
                .or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
            link.ok_or(EntryError::Malformed("link target"))
        };
        let mut size = self.left;
        let mut pieces = None;
        let kind = match header.entry_type() {
            // Old writers mark a folder by the slash alone.
            EntryType::Regular if path.ends_with(b"/") && header.as_ustar().is_none() => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(sparse) = extensions.sparse {
                    size = sparse.size;
                    pieces = Some(match sparse.pieces {
                        Some(pieces) => pieces,
                        None => self.map_in_data()?,
                    });
                }
                Kind::File
            }
            EntryType::GNUSparse => {
                let gnu = header.as_gnu().ok_or(EntryError::Malformed("sparse map"))?;
                size = gnu.real_size().map_err(decode)?;
                pieces = Some(self.gnu_map(&gnu.sparse, gnu.is_extended())?);
                Kind::File
            }
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => Kind::Hardlink(link()?),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other => return Err(EntryError::UnknownType(char::from(other.as_byte()))),
        };
        if let Some(pieces) = &pieces {
            sparse::check(pieces, size, self.left)?;
        }
        Ok(Entry {
            path,
            kind,
            mode: header.mode().map_err(decode)? & 0o7777,
            uid: extensions.uid.map_or_else(|| header.uid(), Ok).map_err(decode)?,
            gid: extensions.gid.map_or_else(|| header.gid(), Ok).map_err(decode)?,
            // Times before 1970 come as a huge two's complement number; nobody misses them.
            mtime: match extensions.mtime {
                Some(mtime) => mtime,
                None => (i64::try_from(header.mtime().map_err(decode)?).unwrap_or(0), 0),
            },
            xattrs: extensions.xattrs,
            size,
            pieces,
        })
    }
}
