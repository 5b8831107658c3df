//! Where the data of sparse files belongs, in the two formats that keep the map beside the data.

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuSparseHeader};

use super::{BLOCK, Entries, EntryError, MAX_PIECES};

impl<R: Read> Entries<'_, R> {
    /// The map of GNU's old format: four pieces in the header, more in the blocks after it.
    pub(super) fn gnu_map(
        &mut self,
        first: &[GnuSparseHeader],
        extended: bool,
    ) -> Result<Vec<(u64, u64)>, EntryError> {
        let number = self.number;
        let mut pieces = Vec::new();
        let mut add = |headers: &[GnuSparseHeader]| {
            for piece in headers.iter().filter(|piece| !piece.is_empty()) {
                let decode = |source| EntryError::Header { number, source };
                pieces.push((piece.offset().map_err(decode)?, piece.length().map_err(decode)?));
            }
            if pieces.len() > MAX_PIECES {
                Err(EntryError::TooLong("sparse map"))
            } else {
                Ok(())
            }
        };
        add(first)?;
        let mut more = extended;
        while more {
            // These blocks stand between header and data, and the size does not count them.
            let mut block = GnuExtSparseHeader::new();
            self.input
                .read_exact(block.as_mut_bytes())
                .map_err(EntryError::Read)?;
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok(pieces)
    }

    /// The map of PAX format 1.0: decimal lines at the beginning of the data, padded to a block.
    pub(super) fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, EntryError> {
        let mut block = [0; BLOCK as usize];
        let mut at = block.len();
        let mut line = || {
            let mut number: u64 = 0;
            loop {
                if at == block.len() {
                    self.data_exact(&mut block)?;
                    at = 0;
                }
                let byte = block[at];
                at += 1;
                match byte {
                    b'\n' => return Ok(number),
                    b'0'..=b'9' => {
                        let digit = u64::from(byte - b'0');
                        let next = number.checked_mul(10).and_then(|n| n.checked_add(digit));
                        number = next.ok_or(EntryError::Malformed("sparse map"))?;
                    }
                    _ => return Err(EntryError::Malformed("sparse map")),
                }
            }
        };
        let count = usize::try_from(line()?).unwrap_or(usize::MAX);
        if count > MAX_PIECES {
            return Err(EntryError::TooLong("sparse map"));
        }
        (0..count).map(|_| Ok((line()?, line()?))).collect()
    }
}

/// Pieces must follow each other within the file, and account for all data.
pub(super) fn check(pieces: &[(u64, u64)], size: u64, data: u64) -> Result<(), EntryError> {
    let malformed = || EntryError::Malformed("sparse map");
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in pieces {
        if *offset < end {
            return Err(malformed());
        }
        end = offset.checked_add(*length).ok_or_else(malformed)?;
        sum += length;
    }
    if end <= size && sum <= data {
        Ok(())
    } else {
        Err(malformed())
    }
}
