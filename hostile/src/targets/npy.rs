//! Arrays as `numpy.save` writes them.

use crate::error::Result;
use crate::target::Seed;
use quantize_calib::{Array, Limits};

/// Arrays of every type of number that is read and of both orders, made here.
pub(super) fn arrays() -> Result<Vec<Seed>> {
    Ok(vec![
        array("f4", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24),
        array("f8", 1, "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2, 2), }", 96),
        array("u1", 2, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 4, 4, 3), }", 48),
        array("scalar", 3, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", 8),
        array("empty", 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (0,), }", 0),
    ])
}

fn array(name: &str, version: u8, header: &str, bytes: u8) -> Seed {
    Seed::made(name, file(version, header, &(0..bytes).collect::<Vec<u8>>()))
}

/// A file with this header and these elements.
pub(crate) fn file(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length[..] };
    [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes(), elements].concat()
}

/// Reads an array.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let array = Array::parse("damaged.npy", &bytes, Limits::default()).map_err(|error| error.to_string())?;
    assert_eq!(array.shape().iter().product::<usize>(), array.data().len(), "another number of elements");
    Ok(())
}
