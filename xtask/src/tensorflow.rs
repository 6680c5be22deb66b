//! TensorFlow graphs made by us: ResNet-50 with random weights and the example of `quantize demo`, the same bytes at every
//! run.
//!
//! What ResNet-50 consists of is in [`mod@resnet`], how layers become nodes in [`builder`], and the example in [`digits`]. Reading graphs is the
//! business of `quantize-tensorflow`.

mod builder;
mod digits;
mod resnet;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quantize_document::OutputSet;
use quantize_document::encode::{bytes_field, varint_field};
use quantize_tensorflow::GraphDef;

use crate::error::{Result, at};

pub(crate) use digits::write_digits;
pub(crate) use resnet::{INPUT, OUTPUT};

/// Name of the file.
const FILE: &str = "resnet50.pb";

/// `GraphDef.versions`
const VERSIONS: u32 = 4;
/// `VersionDef.producer`
const PRODUCER: u32 = 1;
/// The version of graphs that TensorFlow 1.15 writes.
const VERSION: u64 = 134;

/// Writes ResNet-50 as a frozen GraphDef into `folder`, which is made if it is not there.
///
/// # Errors
///
/// If the folder or the file cannot be written.
pub(crate) fn write_resnet(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let path = folder.join(FILE);
    let graph = resnet::resnet50();
    let mut outputs = OutputSet::new();
    outputs.add_writer(&path, |out| write_to(&graph, out));
    outputs.commit()?;
    Ok(path)
}

/// A graph as the bytes of a file.
fn serialized(graph: &GraphDef) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(graph, &mut bytes).map_err(at(Path::new(FILE)))?;
    Ok(bytes)
}

/// Writes a graph with the version of the format.
fn write_to(graph: &GraphDef, out: &mut dyn Write) -> io::Result<()> {
    graph.write_to(out)?;
    out.write_all(&bytes_field(VERSIONS, &varint_field(PRODUCER, VERSION)))
}
