//! VGG16 (Simonyan and Zisserman 2014, "Very Deep Convolutional Networks", table 1, column D), whole and without its
//! fully connected layers.

use super::builder::{Activation, Builder, Flow, plain};
use super::file::Model;

const SEED: u32 = 1409;
/// Convolutions of each stage and their outputs.
const STAGES: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];
/// Outputs of each of the two hidden fully connected layers.
const HIDDEN: usize = 4096;

/// The whole network.
pub(super) fn vgg16() -> Model {
    let (mut builder, maps) = stages("vgg16");
    let mut flow = builder.flatten("flatten", &maps);
    for name in ["hidden1", "hidden2"] {
        flow = builder.dense(name, &flow, HIDDEN, Activation::Relu);
    }
    builder.finish_classes(&flow)
}

/// The network up to its last pooling.
pub(super) fn convolutions() -> Model {
    let (builder, maps) = stages("vgg16_conv");
    builder.finish_map(&maps)
}

fn stages(name: &'static str) -> (Builder, Flow) {
    let (mut builder, mut flow) = Builder::new(name, SEED);
    for (stage, (convolutions, outputs)) in (1..).zip(STAGES) {
        for index in 1..=convolutions {
            flow = builder.convolution(&format!("conv{stage}_{index}"), &flow, plain(outputs, 3), Activation::Relu);
        }
        flow = builder.max_pool(&format!("pool{stage}"), &flow, 2, 0);
    }
    (builder, flow)
}
