//! MobileNetV1 of width 1.0 (Howard et al. 2017, "MobileNets", table 1), with ReLU6 as its published weights have it.

use super::builder::{Activation, Builder, Convolution, plain};
use super::file::Model;

const SEED: u32 = 1704;
/// Stride of the depthwise convolution and outputs of the pointwise one, block by block.
const BLOCKS: [(usize, usize); 13] = [
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
];

/// The network.
pub(super) fn mobilenet_v1() -> Model {
    let (mut builder, image) = Builder::new("mobilenet_v1", SEED);
    let stem = Convolution { stride: 2, ..plain(32, 3) };
    let mut flow = builder.convolution("stem", &image, stem, Activation::Relu6);
    for (index, (stride, outputs)) in (1..).zip(BLOCKS) {
        let depthwise = Convolution { stride, depthwise: true, ..plain(flow.channels, 3) };
        flow = builder.convolution(&format!("block{index}.depthwise"), &flow, depthwise, Activation::Relu6);
        flow = builder.convolution(&format!("block{index}.pointwise"), &flow, plain(outputs, 1), Activation::Relu6);
    }
    let pooled = builder.average("pool", &flow);
    let vector = builder.flatten("flatten", &pooled);
    builder.finish_classes(&vector)
}
