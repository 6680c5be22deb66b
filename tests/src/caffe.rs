//! The Caffe networks among the shared models, and how they are run.

use crate::arrays::{npy, npy_images, npz};
use crate::sandbox::Sandbox;
use quantize_caffe::{CaffeDocument, CaffeError, ReadOptions, import};
use quantize_document::{Limits, SourceFile, encode};
use quantize_exec::{Program, Session, View};
use quantize_ir::{Graph, Tensor, ValueId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A network in the folder of Caffe models.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its name in reference outputs.
    pub name: &'static str,
    /// Its description, relative to the folder.
    pub prototxt: &'static str,
    /// Its weights, relative to the folder.
    pub caffemodel: &'static str,
}

/// Every network there can be.
pub const NETWORKS: &[Network] = &[
    Network { name: "lenet", prototxt: "lenet/lenet.prototxt", caffemodel: "lenet/lenet_iter_10000.caffemodel" },
    Network { name: "mtcnn_det1", prototxt: "mtcnn/det1.prototxt", caffemodel: "mtcnn/det1.caffemodel" },
    Network { name: "mtcnn_det2", prototxt: "mtcnn/det2.prototxt", caffemodel: "mtcnn/det2.caffemodel" },
    Network { name: "mtcnn_det3", prototxt: "mtcnn/det3.prototxt", caffemodel: "mtcnn/det3.caffemodel" },
    Network { name: "mtcnn_det4", prototxt: "mtcnn/det4.prototxt", caffemodel: "mtcnn/det4.caffemodel" },
    Network {
        name: "open_nsfw",
        prototxt: "open_nsfw/deploy.prototxt",
        caffemodel: "open_nsfw/resnet_50_1by2_nsfw.caffemodel",
    },
    Network { name: "tiny_mix", prototxt: "tiny_mix/tiny_mix.prototxt", caffemodel: "tiny_mix/tiny_mix.caffemodel" },
    Network { name: "tiny_v1", prototxt: "tiny_mix/tiny_v1.prototxt", caffemodel: "tiny_mix/tiny_v1.caffemodel" },
];

impl Network {
    /// The network of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        NETWORKS.iter().find(|network| network.name == name).expect("a network of this name")
    }

    /// The inputs `[N, C, H, W]` that reference outputs in `golden` are of; `None` if there are none.
    #[must_use]
    pub fn reference_input(&self, golden: &Path) -> Option<Tensor> {
        let (file, key) = match self.name {
            "open_nsfw" => return Some(npy(&golden.join("e2e_open_nsfw/input4.npy"))),
            "tiny_mix" => ("tiny_mix/fp32.npz".to_owned(), "input"),
            "tiny_v1" => ("tiny_mix/fp32.npz".to_owned(), "v1_input"),
            name => (format!("fp32/{name}.npz"), "input"),
        };
        let file = golden.join(file);
        file.exists().then(|| npz(&file).remove(key).expect("an input"))
    }

    /// The files of the network in `folder`, the folder of Caffe models, as arguments.
    #[must_use]
    pub fn arguments(&self, folder: &Path) -> String {
        format!("{} {}", folder.join(self.prototxt).display(), folder.join(self.caffemodel).display())
    }

    /// The network in `folder`, the folder of Caffe models, for inputs of `dims` (channels, height, width).
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn document(&self, folder: &Path, dims: [usize; 3]) -> Arc<CaffeDocument> {
        let limits = Limits::default();
        let read = |file: &str| SourceFile::read(folder.join(file), &limits).expect("a file of the network");
        let options = ReadOptions { dims: Some(dims), override_dims: true };
        let document = CaffeDocument::parse(read(self.prototxt), read(self.caffemodel), &limits, &options);
        Arc::new(document.unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }

    /// The graph of the network.
    ///
    /// # Panics
    /// If it cannot be imported, or some layer is not understood.
    #[must_use]
    pub fn graph(&self, folder: &Path, dims: [usize; 3]) -> Graph {
        let document = self.document(folder, dims);
        let (graph, problems) = import(&document).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert!(problems.is_empty(), "{}: {problems:?}", self.name);
        graph
    }
}

/// Runs a graph of one input and returns every value it has, by name, checking that values have the shapes that the
/// graph declares.
///
/// # Panics
/// If the graph does not run, or a value has another shape than declared.
#[must_use]
pub fn run(graph: &Graph, input: &Tensor) -> BTreeMap<String, Tensor> {
    let computed: Vec<ValueId> =
        graph.values().filter(|(id, _)| graph.producer(*id).is_some()).map(|(id, _)| id).collect();
    let program = Program::observe(graph, &computed).expect("a program");
    let mut values = BTreeMap::new();
    let mut observe = |id: ValueId, seen: &View<'_>| {
        let tensor = seen.tensor().expect("a tensor");
        let value = graph.value(id);
        let declared = value.shape.as_ref().expect("a declared shape");
        let fits = declared.iter().zip(tensor.shape()).all(|(d, n)| d.known().is_none_or(|d| d == *n as u64));
        assert!(fits && declared.len() == tensor.shape().len(), "`{}`: {declared:?} and {tensor:?}", value.name);
        values.insert(value.name.clone(), tensor.into_owned());
    };
    let fed = [(graph.inputs()[0], input.clone())];
    Session::new(&program).run(&fed, &mut observe).expect("a run");
    values
}

/// A folder that holds the samples of a batch `[N, C, H, W]` in `data`, as arrays in the order of their names.
#[must_use]
pub fn sandbox_with(batch: &Tensor) -> Sandbox {
    let sandbox = Sandbox::new();
    for (index, image) in npy_images(batch).iter().enumerate() {
        sandbox.write(&format!("data/{index:02}.npy"), image);
    }
    sandbox
}

/// Options that feed a network arrays of `channels` channels as they are.
#[must_use]
pub fn unprepared(channels: usize) -> &'static str {
    match channels {
        3 => "--raw_scale 1 --mean_value 0 --channel_swap 0,1,2",
        _ => "--raw_scale 1 --mean_value 0",
    }
}

/// A blob of a weights file.
#[must_use]
pub fn blob(shape: &[u64], data: &[f32]) -> Vec<u8> {
    let mut axes = Vec::new();
    shape.iter().for_each(|axis| encode::varint(&mut axes, *axis));
    let numbers: Vec<u8> = data.iter().flat_map(|number| number.to_le_bytes()).collect();
    [encode::bytes_field(7, &encode::bytes_field(1, &axes)), encode::bytes_field(5, &numbers)].concat()
}

/// A layer of a weights file.
#[must_use]
pub fn stored(name: &str, blobs: &[Vec<u8>]) -> Vec<u8> {
    let blobs = blobs.iter().flat_map(|blob| encode::bytes_field(7, blob));
    let layer: Vec<u8> = encode::bytes_field(1, name.as_bytes()).into_iter().chain(blobs).collect();
    encode::bytes_field(100, &layer)
}

/// A network of these texts.
///
/// # Errors
/// If it cannot be read.
pub fn parse(prototxt: &[u8], caffemodel: &[u8]) -> Result<Arc<CaffeDocument>, CaffeError> {
    let file = |name: &str, bytes: &[u8]| SourceFile::from_bytes(name, bytes.to_vec());
    let (prototxt, caffemodel) = (file("net.prototxt", prototxt), file("net.caffemodel", caffemodel));
    CaffeDocument::parse(prototxt, caffemodel, &Limits::default(), &ReadOptions::default()).map(Arc::new)
}
