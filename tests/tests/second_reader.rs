//! A reader of protocol buffers that shares no code with ours sees the same in every field of every model.
#![allow(clippy::unwrap_used)]

use protobuf::reflect::{ReflectFieldRef, ReflectValueRef};
use protobuf::{MessageDyn, MessageFull};
use quantize_proto::onnx as ours;
use quantize_tests::{counted, fixtures, shared};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Messages of ONNX as the second compiler makes them.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod second {
    include!(concat!(env!("OUT_DIR"), "/second/mod.rs"));
}
use second::onnx as theirs;

/// Larger models hold nothing but larger weights.
const MAX_BYTES: u64 = 64 << 20;

/// Fields seen, by message and name.
#[derive(Default)]
struct Seen(BTreeMap<String, usize>);

impl Seen {
    /// Counts the fields of a message and of those in it; none may be unknown to the schema.
    fn walk(&mut self, message: &dyn MessageDyn) {
        let descriptor = message.descriptor_dyn();
        let unknown: Vec<u32> = message.unknown_fields_dyn().iter().map(|(number, _)| number).collect();
        assert!(unknown.is_empty(), "fields {unknown:?} of {} are not in the schema", descriptor.name());
        for field in descriptor.fields() {
            let name = format!("{}.{}", descriptor.name(), field.name());
            match field.get_reflect(message) {
                ReflectFieldRef::Optional(value) => {
                    if let Some(value) = value.value() {
                        self.value(&name, value);
                    }
                }
                ReflectFieldRef::Repeated(list) => list.into_iter().for_each(|value| self.value(&name, value)),
                ReflectFieldRef::Map(_) => panic!("the schema has no maps: {name}"),
            }
        }
    }

    fn value(&mut self, name: &str, value: ReflectValueRef<'_>) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(name.to_owned(), 1)),
        }
        if let ReflectValueRef::Message(message) = value {
            self.walk(&*message);
        }
    }
}

/// Each reader reads what the other one writes of what it has read, and sees what it saw in the file: no field is left
/// out, changed or made up by either. Written forms are compared, in which not-a-number equals itself.
fn agree<Ours, Theirs>(file: &Path, seen: &mut Seen) -> (Ours, Theirs)
where
    Ours: prost::Message + Default,
    Theirs: MessageFull,
{
    let bytes = std::fs::read(file).unwrap();
    let (first, second) = (Ours::decode(&*bytes).unwrap(), Theirs::parse_from_bytes(&bytes).unwrap());
    let (written_by_first, written_by_second) = (first.encode_to_vec(), second.write_to_bytes().unwrap());
    let second_of_first = Theirs::parse_from_bytes(&written_by_first).unwrap().write_to_bytes().unwrap();
    assert!(second_of_first == written_by_second, "{}: ours lacks or changes a field", file.display());
    let first_of_second = Ours::decode(&*written_by_second).unwrap().encode_to_vec();
    assert!(first_of_second == written_by_first, "{}: theirs lacks or changes a field", file.display());
    seen.walk(&second);
    (first, second)
}

/// The names that both readers have for what a graph consists of.
fn compare_graphs(file: &Path, ours: &ours::GraphProto, theirs: &theirs::GraphProto) {
    let nodes = |n: &ours::NodeProto| (n.name().to_owned(), n.op_type().to_owned(), n.input.clone(), n.output.clone());
    let first: Vec<_> = ours.node.iter().map(nodes).collect();
    let nodes =
        |n: &theirs::NodeProto| (n.name().to_owned(), n.op_type().to_owned(), n.input.clone(), n.output.clone());
    let second: Vec<_> = theirs.node.iter().map(nodes).collect();
    assert_eq!(first, second, "{}", file.display());
    let tensors = |t: &ours::TensorProto| (t.name().to_owned(), t.dims.clone(), t.data_type(), t.raw_data().to_vec());
    let first: Vec<_> = ours.initializer.iter().map(tensors).collect();
    let tensors = |t: &theirs::TensorProto| (t.name().to_owned(), t.dims.clone(), t.data_type(), t.raw_data().to_vec());
    let second: Vec<_> = theirs.initializer.iter().map(tensors).collect();
    assert!(first == second, "{}: initializers", file.display());
}

fn compare_models(files: &[PathBuf]) -> Seen {
    let mut seen = Seen::default();
    for file in files {
        let (ours, theirs) = agree::<ours::ModelProto, theirs::ModelProto>(file, &mut seen);
        assert_eq!((ours.ir_version(), ours.producer_name()), (theirs.ir_version(), theirs.producer_name()));
        compare_graphs(file, &ours.graph.unwrap(), theirs.graph.as_ref().unwrap());
    }
    counted(files.len(), "models that two readers agree on");
    counted(seen.0.values().sum(), "values of fields in them");
    seen
}

/// The files with this suffix in a folder and those in it, in order, but for large ones.
fn files_below(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(suffix) && path.metadata().unwrap().len() <= MAX_BYTES {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn two_readers_agree_on_every_fixture() {
    let models: Vec<PathBuf> = fixtures::model_names().iter().map(|name| fixtures::model(name)).collect();
    let seen = compare_models(&models);
    for field in [
        "NodeProto.attribute",
        "AttributeProto.ints",
        "AttributeProto.f",
        "TensorProto.raw_data",
        "Dimension.dim_value",
    ] {
        assert!(seen.0.contains_key(field), "{field} is in no fixture: {:?}", seen.0);
    }
    let mut seen = Seen::default();
    let tensors = files_below(models[0].parent().unwrap(), ".pb");
    for tensor in &tensors {
        let _ = agree::<ours::TensorProto, theirs::TensorProto>(tensor, &mut seen);
    }
    counted(tensors.len(), "tensors that two readers agree on");
}

#[test]
fn two_readers_agree_on_every_shared_model() {
    let Some(folder) = shared() else { return };
    let _ = compare_models(&files_below(&folder, ".onnx"));
}
