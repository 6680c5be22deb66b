//! Sorted tables of keys and values, the file format of LevelDB: the index of a checkpoint of version 2, and the whole
//! of one of version 1.
//!
//! A table is blocks of entries, an index block that says where they are, and a footer that says where that is. Every
//! block has a checksum; keys are written as what they add to the key before.

use bytes::Bytes;
use quantize_document::{Limits, SourceFile};

/// The last bytes of a table.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Two places, padded, and the magic number.
const FOOTER: usize = 48;
/// Kind of compression and checksum behind each block.
const TRAILER: usize = 5;
/// A compressed block holds at most so many times its bytes: a copy of 64 bytes takes three.
const MAX_COMPRESSION: usize = 24;
/// All keys together, and all decompressed blocks together, have at most so many times the bytes of the file…
const MAX_TIMES: usize = 4;
/// … and so many bytes.
const MAX_BYTES: usize = 1 << 20;

/// An entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Bytes,
}

/// Whether a file ends as a table does.
pub(super) fn is_table(bytes: &[u8]) -> bool {
    bytes.len() >= FOOTER && bytes.ends_with(&MAGIC.to_le_bytes())
}

/// The entries of a table, in order.
///
/// # Errors
/// If a length or place makes no sense, a checksum does not fit, or there is too much of anything.
pub(super) fn entries(source: &SourceFile, limits: &Limits) -> Result<Vec<Entry>, String> {
    let file = Bytes::from_owner(source.clone());
    if !is_table(&file) {
        return Err("it does not end as a table of a checkpoint does".into());
    }
    let footer = file.slice(file.len() - FOOTER..);
    let mut places = Cursor(&footer);
    let (_meta_index, index) = (places.place()?, places.place()?);
    let mut reader = Reader { file, budget: source.bytes().len() * MAX_TIMES + MAX_BYTES };
    let mut entries = Vec::new();
    for block in reader.block(index)? {
        let place = Cursor(&block.value).place()?;
        entries.extend(reader.block(place)?);
        limits.check_items(entries.len(), "entries").map_err(|exceeded| exceeded.to_string())?;
    }
    Ok(entries)
}

/// Where a block is.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    length: usize,
}

struct Reader {
    file: Bytes,
    /// Bytes that may still be taken for keys and decompressed blocks.
    budget: usize,
}

impl Reader {
    fn block(&mut self, place: Place) -> Result<Vec<Entry>, String> {
        let content = self.content(place)?;
        let about = |cause: String| format!("the block at byte {}: {cause}", place.offset);
        let restarts = content.len().checked_sub(4).ok_or_else(|| about("it is too short".into()))?;
        let count = content.get(restarts..).and_then(|tail| tail.first_chunk()).map_or(0, |n| u32::from_le_bytes(*n));
        let end = usize::try_from(count).ok().and_then(|count| count.checked_mul(4));
        let end = end.and_then(|table| restarts.checked_sub(table));
        let end = end.ok_or_else(|| about(format!("it has no room for {count} places")))?;
        self.list(&content.slice(..end)).map_err(about)
    }

    /// The entries of a block without its list of places.
    fn list(&mut self, content: &Bytes) -> Result<Vec<Entry>, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut cursor = Cursor(content);
        while !cursor.0.is_empty() {
            let (shared, added, length) = (cursor.length()?, cursor.length()?, cursor.length()?);
            let before = entries.last().map_or(&[][..], |entry| &entry.key);
            let shared = before.get(..shared).ok_or("a key is longer in common with the one before than that is")?;
            let key = [shared, cursor.take(added)?].concat();
            let start = content.len() - cursor.0.len();
            cursor.take(length)?;
            self.spend(key.len())?;
            entries.push(Entry { key, value: content.slice(start..start + length) });
        }
        Ok(entries)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.budget = self.budget.checked_sub(bytes).ok_or("its contents are much larger than the file")?;
        Ok(())
    }

    /// The bytes of a block, checked and decompressed.
    fn content(&mut self, Place { offset, length }: Place) -> Result<Bytes, String> {
        let outside = || format!("there is no block of {length} bytes at byte {offset}");
        let end = offset.checked_add(length).ok_or_else(outside)?;
        let behind = end.checked_add(TRAILER).filter(|behind| *behind <= self.file.len()).ok_or_else(outside)?;
        let block = self.file.slice(offset..end);
        let trailer = self.file.slice(end..behind);
        let Some((kind, checksum)) = trailer.split_first_chunk::<1>() else { return Err(outside()) };
        let expected = checksum.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if masked(crc32c::crc32c_append(crc32c::crc32c(&block), kind)) != expected {
            return Err(format!("the checksum of the block at byte {offset} does not fit; the file is damaged"));
        }
        match kind {
            [0] => Ok(block),
            [1] => self.decompressed(&block),
            [other] => Err(format!("the block at byte {offset} is compressed in an unknown way ({other})")),
        }
    }

    fn decompressed(&mut self, block: &[u8]) -> Result<Bytes, String> {
        let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
        if length > block.len().saturating_mul(MAX_COMPRESSION) {
            return Err(format!("a block of {} bytes says that it holds {length}", block.len()));
        }
        self.spend(length)?;
        snap::raw::Decoder::new().decompress_vec(block).map(Bytes::from).map_err(|error| error.to_string())
    }
}

/// The form in which checksums are stored, so that checksums of checksums are not special.
pub(super) fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Bytes that are read from front to back.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next varint.
    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let length = self.0.iter().take(10).position(|byte| *byte < 0x80).ok_or("a number is cut off")? + 1;
        let bytes = self.take(length)?;
        Ok(bytes.iter().rev().fold(0u64, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    }

    /// The next varint, as a number of bytes.
    fn length(&mut self) -> Result<usize, String> {
        usize::try_from(self.varint()?).map_err(|_| "a length is too large".into())
    }

    fn place(&mut self) -> Result<Place, String> {
        Ok(Place { offset: self.length()?, length: self.length()? })
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("an entry is cut off")?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use quantize_document::encode::varint;

    /// A table of these entries, in blocks of at most `per_block`, compressed or not.
    pub(crate) fn table(entries: &[(Vec<u8>, Vec<u8>)], per_block: usize, compress: bool) -> Vec<u8> {
        let mut file = Vec::new();
        let mut index = Vec::new();
        for chunk in entries.chunks(per_block.max(1)) {
            let place = append(&mut file, &block(chunk), compress);
            index.push((chunk.last().unwrap().0.clone(), place));
        }
        let meta = append(&mut file, &block(&[]), compress);
        let index = append(&mut file, &block(&index), compress);
        let mut footer = [meta, index].concat();
        footer.resize(FOOTER - 8, 0);
        [file, footer, MAGIC.to_le_bytes().to_vec()].concat()
    }

    /// A block in which each key shares what it can with the one before.
    fn block(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before: &[u8] = &[];
        for (key, value) in entries {
            let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
            [shared, key.len() - shared, value.len()].iter().for_each(|n| varint(&mut out, *n as u64));
            out.extend_from_slice(&key[shared..]);
            out.extend_from_slice(value);
            before = key;
        }
        out.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
        out
    }

    /// Appends a block; returns its place.
    fn append(file: &mut Vec<u8>, block: &[u8], compress: bool) -> Vec<u8> {
        let stored = if compress { snap::raw::Encoder::new().compress_vec(block).unwrap() } else { block.to_vec() };
        let mut place = Vec::new();
        varint(&mut place, file.len() as u64);
        varint(&mut place, stored.len() as u64);
        let kind = u8::from(compress);
        let checksum = masked(crc32c::crc32c_append(crc32c::crc32c(&stored), &[kind]));
        file.extend_from_slice(&stored);
        file.push(kind);
        file.extend_from_slice(&checksum.to_le_bytes());
        place
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<Entry>, String> {
        entries(&SourceFile::from_bytes("table", bytes), &Limits::default())
    }

    proptest! {
        #[test]
        fn entries_read_back(
            list in prop::collection::btree_map(prop::collection::vec(0u8..3, 0..9), "[a-c]{0,40}", 0..30),
            per_block in 1usize..9,
            compress: bool,
        ) {
            let list: Vec<(Vec<u8>, Vec<u8>)> = list.into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
            let read = read(table(&list, per_block, compress)).unwrap();
            let read: Vec<(Vec<u8>, Vec<u8>)> = read.into_iter().map(|e| (e.key, e.value.to_vec())).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn damage_is_found(at: prop::sample::Index, change in 1u8..) {
            let mut bytes = table(&[(b"key".to_vec(), b"value".to_vec())], 1, false);
            let at = at.index(bytes.len() - FOOTER);
            bytes[at] ^= change;
            // Only the empty meta block, which nobody reads, may differ.
            if let Ok(read) = read(bytes) {
                prop_assert_eq!(&read[0].value[..], &b"value"[..]);
            }
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(read(Vec::new()).unwrap_err().contains("does not end"));
        let mut footer = vec![0xff; FOOTER - 8];
        footer.extend_from_slice(&MAGIC.to_le_bytes());
        assert!(read(footer).is_err());
        let mut cut = table(&[(b"key".to_vec(), vec![7; 100])], 1, false);
        cut.drain(..50);
        assert!(read(cut).is_err());
    }

    #[test]
    fn a_block_that_says_it_is_huge_is_refused() {
        let mut reader = Reader { file: Bytes::new(), budget: 1 << 20 };
        let mut bomb = Vec::new();
        varint(&mut bomb, 1 << 31);
        assert!(reader.decompressed(&bomb).unwrap_err().contains("says that it holds"));
    }

    #[test]
    fn the_checksum_is_masked() {
        // The checksum of nothing.
        assert_eq!(masked(crc32c::crc32c(b"")), 0xa282_ead8);
    }
}
