//! The table of targets. To add a reader, add a row.

mod caffe;
mod external;
mod npy;
mod npz;
mod onnx;
mod plan;
mod statistics;
mod tensorflow;
mod wire;

use crate::bombs;
use crate::target::Target;
pub(crate) use npy::file as array_file;
pub(crate) use npz::archive;
use quantize_hostile::mutate::Form;

/// Every reader that is tried.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "wire",
        form: Form::Protobuf,
        seeds: onnx::models,
        bombs: bombs::messages,
        refuses_cut: |_, _| false,
        read: wire::read,
    },
    Target {
        name: "onnx",
        form: Form::Protobuf,
        seeds: onnx::models,
        bombs: bombs::models,
        refuses_cut: onnx::is_incomplete,
        read: onnx::read,
    },
    Target {
        name: "onnx-passes",
        form: Form::Protobuf,
        seeds: onnx::models,
        bombs: bombs::costly_models,
        refuses_cut: onnx::is_incomplete,
        read: onnx::prepare,
    },
    Target {
        name: "onnx-external",
        form: Form::Protobuf,
        seeds: external::models,
        bombs: external::escapes,
        refuses_cut: external::is_cut,
        read: external::read,
    },
    Target {
        name: "onnx-tensor",
        form: Form::Protobuf,
        seeds: onnx::tensors,
        bombs: bombs::tensors,
        refuses_cut: onnx::is_cut_tensor,
        read: onnx::read_tensor,
    },
    Target {
        name: "statistics",
        form: Form::Bytes,
        seeds: statistics::records,
        bombs: bombs::records,
        refuses_cut: always,
        read: statistics::read,
    },
    Target {
        name: "statistics-file",
        form: Form::Bytes,
        seeds: statistics::files,
        bombs: Vec::new,
        refuses_cut: always,
        read: statistics::read_file,
    },
    Target {
        name: "plan",
        form: Form::Text,
        seeds: plan::files,
        bombs: bombs::plans,
        refuses_cut: caffe::is_cut_json,
        read: plan::read,
    },
    Target {
        name: "npy",
        form: Form::Bytes,
        seeds: npy::arrays,
        bombs: bombs::arrays,
        refuses_cut: always,
        read: npy::read,
    },
    Target {
        name: "npy-rows",
        form: Form::Bytes,
        seeds: npy::arrays,
        bombs: bombs::arrays,
        refuses_cut: always,
        read: npz::read_npy,
    },
    Target {
        name: "npz",
        form: Form::Bytes,
        seeds: npz::archives,
        bombs: bombs::archives,
        refuses_cut: always,
        read: npz::read_npz,
    },
    Target {
        name: "prototxt",
        form: Form::Text,
        seeds: caffe::descriptions,
        bombs: bombs::descriptions,
        refuses_cut: caffe::is_inside_a_block,
        read: caffe::read_description,
    },
    Target {
        name: "caffemodel",
        form: Form::Protobuf,
        seeds: caffe::weights,
        bombs: bombs::weights,
        refuses_cut: caffe::lacks_blobs,
        read: caffe::read_weights,
    },
    Target {
        name: "quantization",
        form: Form::Text,
        seeds: caffe::quantization_files,
        bombs: bombs::quantization_files,
        refuses_cut: caffe::is_cut_json,
        read: caffe::read_quantization,
    },
    Target {
        name: "graph",
        form: Form::Protobuf,
        seeds: tensorflow::graphs,
        bombs: bombs::graphs,
        refuses_cut: tensorflow::is_inside_a_field,
        read: tensorflow::read_graph,
    },
    Target {
        name: "graph-text",
        form: Form::Text,
        seeds: tensorflow::texts,
        bombs: bombs::graph_texts,
        refuses_cut: caffe::is_inside_a_block,
        read: tensorflow::read_graph,
    },
];

/// The format says how long a file is, so that no part of one is a file.
fn always(_: &[u8], _: usize) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use crate::measure::call;

    #[test]
    fn valid_files_are_read_and_cut_ones_refused() {
        for target in TARGETS {
            let corpus = Corpus::of(target).unwrap();
            let first = (0..corpus.fixed()).step_by(7).chain(corpus.fixed()..corpus.fixed() + 200);
            for number in first {
                let fault = call(target, corpus.input(number)).fault;
                // Other tests of this process allocate too, so figures of memory mean nothing here.
                let is_wrong = fault.as_ref().is_some_and(|fault| !matches!(fault, crate::measure::Fault::Large(_)));
                assert!(!is_wrong, "{}:{number}: {fault:?}", target.name);
            }
        }
    }

    #[test]
    fn every_target_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), TARGETS.len());
    }
}
