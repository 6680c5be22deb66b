//! Caffe: the description of a network, its weights, and the quantization file that belongs to both.

use crate::error::{Error, Result};
use crate::seeds;
use crate::target::Seed;
use quantize_caffe::xfdnn::{
    Entry, EntryKinds, FileFormat, FileRecipe, LayerThresholds, QuantizationFile, TextStyle, XfdnnRecipe,
    in_layer_order, integer_plan, layer_kind,
};
use quantize_caffe::{CaffeDocument, ReadOptions, import};
use quantize_document::{Limits, SourceFile, index_message};
use quantize_ir::Graph;
use quantize_numerics::xfdnn::{BitWidth, Flavor};
use std::path::PathBuf;
use std::sync::Arc;

const FOLDER: &str = "tests/fixtures/caffe";
/// `NetParameter.layer` and, of the former format, `NetParameter.layers`.
const LAYERS: [u32; 2] = [100, 2];
/// The blobs of a layer, in either format.
const BLOBS: [u32; 2] = [7, 6];

/// Descriptions with their weights.
pub(super) fn descriptions() -> Result<Vec<Seed>> {
    pairs(".prototxt", ".caffemodel")
}

/// Weights with the descriptions of their networks.
pub(super) fn weights() -> Result<Vec<Seed>> {
    pairs(".caffemodel", ".prototxt")
}

fn pairs(end: &str, other: &str) -> Result<Vec<Seed>> {
    let seeds = seeds::files(FOLDER, end, usize::MAX)?;
    let with_other = |seed: Seed| {
        let companion = seeds::read(format!("{FOLDER}/{}", seed.name.replace(end, other)))?;
        Ok(seed.with(companion))
    };
    seeds.into_iter().map(with_other).collect()
}

/// A network.
type Network = (Arc<CaffeDocument>, Graph);

fn network(prototxt: Vec<u8>, caffemodel: Vec<u8>) -> std::result::Result<Network, String> {
    let file = |name: &str, bytes| SourceFile::from_bytes(name, bytes);
    let (text, weights) = (file("damaged.prototxt", prototxt), file("damaged.caffemodel", caffemodel));
    let document = CaffeDocument::parse(text, weights, &Limits::default(), &ReadOptions::default());
    let document = Arc::new(document.map_err(|error| error.to_string())?);
    let (graph, problems) = import(&document).map_err(|error| error.to_string())?;
    problems.iter().for_each(|problem| drop(problem.to_string()));
    for (id, _) in graph.values() {
        // A constant that cannot be read is an error only for those who need it.
        let _ = graph.constant(id);
    }
    Ok((document, graph))
}

/// Reads a network with a damaged description.
pub(super) fn read_description(seed: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    network(bytes, seed.companion(0)).map(|_| ())
}

/// Reads a network with damaged weights.
pub(super) fn read_weights(seed: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    network(seed.companion(0), bytes).map(|_| ())
}

/// Whether a description cut after `length` bytes ends within brackets. The layers before a cut between two of them
/// are a network of their own.
pub(super) fn is_inside_a_block(text: &[u8], length: usize) -> bool {
    let count = |sign: u8| text[..length].iter().filter(|byte| **byte == sign).count();
    count(b'{') > count(b'}')
}

/// Whether weights cut after `length` bytes end within a layer, or lack one that has blobs.
pub(super) fn lacks_blobs(file: &[u8], length: usize) -> bool {
    let Ok(left) = index_message(&file[..length], 0..length, &Limits::default()) else { return true };
    let Ok(whole) = index_message(file, 0..file.len(), &Limits::default()) else { return false };
    let missing = whole.fields().iter().skip(left.fields().len());
    missing.filter(|field| LAYERS.contains(&field.number())).any(|field| {
        let layer = whole.child(file, field, &Limits::default());
        layer.is_ok_and(|layer| BLOBS.iter().any(|number| layer.with_number(*number).next().is_some()))
    })
}

/// Whether JSON cut after `length` bytes lacks more than white space.
pub(super) fn is_cut_json(text: &[u8], length: usize) -> bool {
    !text[length..].iter().all(u8::is_ascii_whitespace)
}

/// Quantization files for the networks, of both generations of hardware and both styles of text.
pub(super) fn quantization_files() -> Result<Vec<Seed>> {
    let mut files = Vec::new();
    for description in descriptions()? {
        let failed = |cause| Error::Seed { name: description.name.clone(), cause };
        let (document, graph) = network(description.bytes.clone(), description.companion(0)).map_err(failed)?;
        for (flavor, style) in [(Flavor::V3, TextStyle::Plain), (Flavor::V2, TextStyle::Py2)] {
            let text = quantization_file(&document, &graph, flavor, style).map_err(failed)?;
            let name = format!("{} for {flavor:?}", description.name);
            let seed = Seed::made(name, text.into_bytes());
            files.push(seed.with(description.bytes.clone()).with(description.companion(0)));
        }
    }
    Ok(files)
}

/// Every layer that can have an entry has one.
fn recipe(document: &Arc<CaffeDocument>) -> XfdnnRecipe {
    let entries = EntryKinds { inner_product: true, scale: true, eltwise: true, average_pool: true };
    let (document, bits) = (Arc::clone(document), BitWidth::Eight);
    XfdnnRecipe { document, bits, entries, keeps_lone_scale: false, corrections: false, float_lrn: false }
}

/// A file with a threshold of 1 everywhere but for weights.
fn quantization_file(
    document: &Arc<CaffeDocument>,
    graph: &Graph,
    flavor: Flavor,
    style: TextStyle,
) -> std::result::Result<String, String> {
    let recipe = recipe(document);
    let mut network = Vec::new();
    for (id, node) in in_layer_order(graph) {
        let kind = layer_kind(&recipe, graph, id, true).map_err(|error| error.to_string())?;
        let Some(kind) = kind else { continue };
        let layer = LayerThresholds { name: node.name.clone(), input: 1.0, output: 1.0, kind };
        network.push(Entry::new(&layer, FileFormat { flavor, bits: recipe.bits }));
    }
    QuantizationFile { network }.to_text(style).map_err(|error| error.to_string())
}

/// Reads a quantization file and makes the integer plan of its network.
pub(super) fn read_quantization(seed: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let source = SourceFile::from_bytes("damaged.json", bytes);
    let file = QuantizationFile::parse(&source).map_err(|error| error.to_string())?;
    let (document, graph) = network(seed.companion(0), seed.companion(1))?;
    let target = recipe(&document);
    let recipe = FileRecipe { target: &target, file: &file };
    let stay = recipe.unfolded(&graph);
    let folded = quantize_passes::prepare(graph, &recipe, &stay).map_err(|error| error.to_string())?.graph;
    let plan = integer_plan(&document, &folded, &file, file.flavor(), PathBuf::from("damaged.json"));
    plan.map(|_| ()).map_err(|error| error.to_string())
}
