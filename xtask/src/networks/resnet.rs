//! ResNet-50 (He et al. 2015, "Deep Residual Learning for Image Recognition", table 1) in the form known as v1.5: the
//! 3x3 convolution of a block has its stride.

use super::builder::{Activation, Builder, Convolution, Flow, plain};
use super::file::Model;

const SEED: u32 = 1512;
/// Blocks and inner channels of each stage.
const STAGES: [(usize, usize); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// Outputs of a block for each inner channel.
const EXPANSION: usize = 4;
/// Makes what a block adds small beside what it adds to, so that sums do not grow from block to block.
const BRANCH_GAIN: f32 = 0.3;

/// The network.
pub(super) fn resnet50() -> Model {
    let (mut builder, image) = Builder::new("resnet50", SEED);
    let stem = builder.convolution("stem", &image, Convolution { stride: 2, ..plain(64, 7) }, Activation::Relu);
    let mut flow = builder.max_pool("stem.pool", &stem, 3, 1);
    for (stage, (blocks, inner)) in STAGES.into_iter().enumerate() {
        for index in 0..blocks {
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            flow = block(&mut builder, &format!("stage{}.{index}", stage + 1), &flow, inner, stride);
        }
    }
    let pooled = builder.average("pool", &flow);
    let vector = builder.flatten("flatten", &pooled);
    builder.finish_classes(&vector)
}

fn block(builder: &mut Builder, name: &str, from: &Flow, inner: usize, stride: usize) -> Flow {
    let outputs = EXPANSION * inner;
    let reduced = builder.convolution(&format!("{name}.conv1"), from, plain(inner, 1), Activation::Relu);
    let spatial = Convolution { stride, ..plain(inner, 3) };
    let spatial = builder.convolution(&format!("{name}.conv2"), &reduced, spatial, Activation::Relu);
    let expanded = Convolution { gain: BRANCH_GAIN, ..plain(outputs, 1) };
    let branch = builder.convolution(&format!("{name}.conv3"), &spatial, expanded, Activation::None);
    if from.channels == outputs {
        return builder.add(&format!("{name}.add"), &branch, from);
    }
    let projection = Convolution { stride, ..plain(outputs, 1) };
    let shortcut = builder.convolution(&format!("{name}.shortcut"), from, projection, Activation::None);
    builder.add(&format!("{name}.add"), &branch, &shortcut)
}
