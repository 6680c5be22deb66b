//! ONNX models with tensors in files beside them: whatever a model says about such a file, nothing outside its folder is
//! read, and nothing that the file does not have.

use super::onnx::read_constants;
use crate::error::{Result, at};
use crate::target::{Bomb, Outcome, Seed};
use quantize_document::encode::{bytes_field, varint_field};
use quantize_document::{Limits, SourceFile};
use quantize_ir::Tensor;
use quantize_onnx::{OnnxDocument, import};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use tempfile::TempDir;

/// What the file outside of the model's folder consists of.
const SECRET: u8 = 0xee;

/// Numbers of `TensorProto.DataType`.
const FLOAT: u64 = 1;
const UINT8: u64 = 2;
const INT64: u64 = 7;

/// The folder of the model, in one with a file that no model may read.
struct Place {
    /// Removed when the process ends regularly; the driver removes those of its workers.
    _root: TempDir,
    model: PathBuf,
}

impl Place {
    fn make() -> Result<Self> {
        let root = tempfile::tempdir().map_err(at(Path::new("temporary folder")))?;
        let (secret, folder) = (root.path().join("secret.bin"), root.path().join("model"));
        let write = |path: PathBuf, bytes: &[u8]| fs::write(&path, bytes).map_err(at(&path));
        fs::create_dir_all(folder.join("sub")).map_err(at(&folder))?;
        write(secret.clone(), &[SECRET; 64])?;
        write(folder.join("weights.bin"), &(0..64).collect::<Vec<u8>>())?;
        write(folder.join("sub/weights.bin"), &(64..128).collect::<Vec<u8>>())?;
        fs::hard_link(&secret, folder.join("second.bin")).map_err(at(&folder))?;
        link(&secret, &folder.join("link.bin")).map_err(at(&folder))?;
        link(root.path(), &folder.join("up")).map_err(at(&folder))?;
        Ok(Self { model: folder.join("damaged.onnx"), _root: root })
    }
}

#[cfg(unix)]
fn link(to: &Path, from: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, from)
}

/// Elsewhere links need rights that a test does not have.
#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A tensor `w` whose elements stand in a file: type, one dimension, and what is said about the file.
fn tensor(data_type: u64, elements: u64, entries: &[(&str, &str)]) -> Vec<u8> {
    let text = |number: u32, text: &str| bytes_field(number, text.as_bytes());
    let entry = |(key, value): &(&str, &str)| bytes_field(13, &[text(1, key), text(2, value)].concat());
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    let head = [varint_field(1, elements), varint_field(2, data_type), text(8, "w")].concat();
    [head, entries, varint_field(14, 1)].concat()
}

/// The graph y = Add(x, w), with such a tensor as initializer or in an attribute of a constant.
fn model(tensor: &[u8], is_attribute: bool) -> Vec<u8> {
    let value = |number, name: &str| bytes_field(number, &bytes_field(1, name.as_bytes()));
    let text = |number: u32, text: &str| bytes_field(number, text.as_bytes());
    let add = bytes_field(1, &[text(1, "x"), text(1, "w"), text(2, "y"), text(4, "Add")].concat());
    let attribute = [text(1, "value"), bytes_field(5, tensor), varint_field(20, 4)].concat();
    let constant = bytes_field(1, &[text(2, "w"), text(4, "Constant"), bytes_field(5, &attribute)].concat());
    let stored = if is_attribute { constant } else { bytes_field(5, tensor) };
    let graph = [value(11, "x"), value(12, "y"), stored, add].concat();
    [varint_field(1, 8), bytes_field(8, &varint_field(2, 13)), bytes_field(7, &graph)].concat()
}

/// Models whose files are there: in the folder and below, whole and in part.
pub(super) fn models() -> Result<Vec<Seed>> {
    let whole = tensor(FLOAT, 16, &[("location", "weights.bin")]);
    let part = tensor(UINT8, 8, &[("location", "weights.bin"), ("offset", "16"), ("length", "8")]);
    let below = tensor(INT64, 4, &[("location", "sub/weights.bin"), ("offset", "32")]);
    Ok(vec![
        Seed::made("a whole file", model(&whole, false)),
        Seed::made("a part", model(&part, false)),
        Seed::made("a file below", model(&below, false)),
        Seed::made("a constant", model(&whole, true)),
    ])
}

/// Whether a model cut after `length` bytes is none; its graph comes last.
pub(super) fn is_cut(model: &[u8], length: usize) -> bool {
    super::onnx::is_incomplete(model, length)
}

/// Ways out of the folder, and stretches that no file has.
pub(super) fn escapes() -> Vec<Bomb> {
    const fn refused(name: &'static str, bytes: fn() -> Vec<u8>) -> Bomb {
        Bomb { name, bytes, outcome: Outcome::Refused }
    }
    fn at_location(location: &str) -> Vec<u8> {
        model(&tensor(UINT8, 64, &[("location", location)]), false)
    }
    fn stretch(offset: &str, length: &str) -> Vec<u8> {
        let entries = [("location", "weights.bin"), ("offset", offset), ("length", length)];
        model(&tensor(UINT8, 64, &entries), false)
    }
    vec![
        refused("a file in the folder above", || at_location("../secret.bin")),
        refused("up, and down, and up", || at_location("sub/../../secret.bin")),
        refused("a symbolic link to a file", || at_location("link.bin")),
        refused("a symbolic link to a folder", || at_location("up/secret.bin")),
        refused("a second name of a file", || at_location("second.bin")),
        refused("an absolute path", || at_location("/etc/passwd")),
        refused("a device", || at_location("/dev/zero")),
        refused("a folder", || at_location("sub")),
        refused("the folder itself", || at_location(".")),
        refused("no path", || at_location("")),
        refused("a path with a zero", || at_location("weights.bin\0.png")),
        refused("a path of a million letters", || at_location(&"a".repeat(1_000_000))),
        refused("a path of a million folders", || at_location(&"a/".repeat(500_000))),
        refused("an offset of 2^64 - 1", || stretch("18446744073709551615", "64")),
        refused("a length of 2^64 - 1", || stretch("0", "18446744073709551615")),
        refused("offset and length that overflow together", || stretch("9223372036854775808", "9223372036854775808")),
        refused("a negative offset", || stretch("-1", "64")),
        refused("two locations", || {
            let entries = [("location", "weights.bin"), ("location", "../secret.bin")];
            model(&tensor(UINT8, 64, &entries), false)
        }),
        refused("more elements than there are", || {
            model(&tensor(FLOAT, 1 << 40, &[("location", "weights.bin")]), false)
        }),
        refused("a way out in a constant", || model(&tensor(UINT8, 64, &[("location", "../secret.bin")]), true)),
    ]
}

/// Imports a model as if it stood in the folder, and reads its constants.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    static PLACE: OnceLock<std::result::Result<Place, String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| Place::make().map_err(|error| error.to_string()));
    let place = place.as_ref().expect("a temporary folder can be made");
    let source = SourceFile::from_bytes(&place.model, bytes);
    let document = OnnxDocument::parse(source, &Limits::default()).map_err(|error| error.to_string())?;
    document.check_external_data().map_err(|error| error.to_string())?;
    let (graph, _) = import(&Arc::new(document)).map_err(|error| error.to_string())?;
    read_constants(&graph, |tensor| assert!(!holds_secret(tensor), "a file outside of the folder was read"));
    Ok(())
}

/// Whether the elements are those of the file outside.
fn holds_secret(tensor: &Tensor) -> bool {
    let bytes = tensor.as_slice::<u8>().is_ok_and(|values| values.starts_with(&[SECRET; 4]));
    let floats = tensor.as_slice::<f32>().is_ok_and(|v| v.first().is_some_and(|v| v.to_le_bytes() == [SECRET; 4]));
    let longs = tensor.as_slice::<i64>().is_ok_and(|v| v.first().is_some_and(|v| v.to_le_bytes() == [SECRET; 8]));
    bytes || floats || longs
}
