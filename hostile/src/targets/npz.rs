//! Files of arrays that feed a model: archives as `numpy.savez` writes them, and rows of single arrays.

use super::npy;
use crate::error::Result;
use crate::target::Seed;
use quantize_calib::{ArrayFiles, DataSet, Limits};
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Archives of both kinds, made here.
pub(super) fn archives() -> Result<Vec<Seed>> {
    let reals = npy::file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &[7; 24]);
    let tokens = npy::file(1, "{'descr': '<i8', 'fortran_order': True, 'shape': (2, 2), }", &[0; 32]);
    let members = [("input_ids", reals.as_slice()), ("mask", tokens.as_slice())];
    Ok(vec![
        Seed::made("stored", archive(&members, CompressionMethod::Stored)),
        Seed::made("compressed", archive(&members, CompressionMethod::Deflated)),
        Seed::made("one array", archive(&members[..1], CompressionMethod::Deflated)),
    ])
}

/// An archive of arrays with these names and contents; empty if it cannot be made.
pub(crate) fn archive(arrays: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in arrays {
        if writer.start_file(format!("{name}.npy"), options).is_err() || writer.write_all(content).is_err() {
            return Vec::new();
        }
    }
    writer.finish().map_or_else(|_| Vec::new(), Cursor::into_inner)
}

/// Reads an archive, array by array.
pub(super) fn read_npz(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    read(&bytes, ".npz")
}

/// Reads an array, row by row.
pub(super) fn read_npy(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    read(&bytes, ".npy")
}

/// Rows that are read of each array.
const ROWS: usize = 4;

fn read(bytes: &[u8], suffix: &str) -> std::result::Result<(), String> {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().map_err(|error| error.to_string())?;
    file.write_all(bytes).map_err(|error| error.to_string())?;
    let opened = DataSet::open(file.path(), Limits::default(), quantize_onnx::decode_tensor_message);
    match opened.map_err(|error| error.to_string())? {
        DataSet::Images(_) => Ok(()),
        DataSet::Arrays(files) => read_arrays(&files).map_err(|error| error.to_string()),
    }
}

fn read_arrays(files: &ArrayFiles) -> std::result::Result<(), quantize_calib::CalibError> {
    for (index, outline) in files.arrays(0).iter().enumerate() {
        let whole = files.load(0, index)?;
        assert_eq!((whole.dtype(), whole.shape()), (outline.dtype, outline.shape.as_slice()), "another array");
        let rows = outline.shape.first().copied().unwrap_or_default();
        for row in 0..rows.min(ROWS) {
            assert_eq!(files.rows(0, index, row..row + 1)?.len() * rows, whole.len(), "another number of elements");
        }
    }
    Ok(())
}
