//! ResNet-50 (He et al. 2015, "Deep Residual Learning for Image Recognition", table 1) as TensorFlow's models have it
//! since version 1.15: activations behind the sums (v1), strides in the 3x3 convolutions (v1.5), which read explicitly
//! padded values where they have one, `FusedBatchNormV3`, and `AddV2`.

use quantize_tensorflow::GraphDef;

use super::builder::{Builder, Convolution, Flow, plain};

/// Name of the node that is fed.
pub(crate) const INPUT: &str = "input";
/// Name of the node with the scores of the classes.
pub(crate) const OUTPUT: &str = "logits";

const SEED: u32 = 1550;
const CLASSES: usize = 1001;
/// Side and channels of an image.
const IMAGE: (usize, usize) = (224, 3);
/// Blocks and inner channels of each stage.
const STAGES: [(usize, usize); 4] = [(3, 64), (4, 128), (6, 256), (3, 512)];
/// Outputs of a block for each inner channel.
const EXPANSION: usize = 4;
/// Makes what a block adds small beside what it adds to, so that sums do not grow from block to block.
const BRANCH_GAIN: f32 = 0.3;

/// The network.
pub(super) fn resnet50() -> GraphDef {
    let (mut builder, image) = Builder::new(SEED, INPUT, IMAGE);
    let stem = builder.convolution("stem", &image, Convolution { stride: 2, ..plain(64, 7) });
    let stem = builder.relu("stem/relu", &stem);
    let mut flow = builder.max_pool("stem/pool", &stem);
    for (stage, (blocks, inner)) in STAGES.into_iter().enumerate() {
        for index in 0..blocks {
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            flow = block(&mut builder, &format!("stage{}/{index}", stage + 1), &flow, inner, stride);
        }
    }
    let pooled = builder.mean("pool", &flow);
    builder.dense(OUTPUT, &pooled, CLASSES);
    builder.finish("softmax", OUTPUT)
}

fn block(builder: &mut Builder, name: &str, from: &Flow, inner: usize, stride: usize) -> Flow {
    let outputs = EXPANSION * inner;
    let shortcut = if from.channels == outputs {
        from.clone()
    } else {
        builder.convolution(&format!("{name}/shortcut"), from, Convolution { stride, ..plain(outputs, 1) })
    };
    let reduced = builder.convolution(&format!("{name}/conv1"), from, plain(inner, 1));
    let reduced = builder.relu(&format!("{name}/relu1"), &reduced);
    let spatial = builder.convolution(&format!("{name}/conv2"), &reduced, Convolution { stride, ..plain(inner, 3) });
    let spatial = builder.relu(&format!("{name}/relu2"), &spatial);
    let expanded = Convolution { gain: BRANCH_GAIN, ..plain(outputs, 1) };
    let branch = builder.convolution(&format!("{name}/conv3"), &spatial, expanded);
    let sum = builder.add(&format!("{name}/add"), &branch, &shortcut);
    builder.relu(&format!("{name}/relu"), &sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_and_parameters_are_as_many_as_published() {
        let graph = resnet50();
        let count = |op: &str| graph.nodes().iter().filter(|node| node.op() == op).count();
        // One padded convolution in the stem and in the first block of the stages behind the first.
        let counts = ["Conv2D", "FusedBatchNormV3", "AddV2", "Pad", "Relu", "MatMul"].map(count);
        assert_eq!(counts, [53, 53, 16, 4, 49, 1]);
        let size = |name: &str| {
            let node = graph.nodes().iter().find(|node| node.name() == name)?;
            node.tensor_proto("value").ok()??.len().ok()
        };
        let ends = ["weights", "gamma", "beta", "bias"];
        let names = graph.nodes().iter().map(|node| node.name());
        let parameters: usize = names.filter(|name| ends.iter().any(|end| name.ends_with(end))).filter_map(size).sum();
        // 25 557 032 for 1000 classes.
        assert_eq!(parameters, 25_557_032 + 2049);
    }
}
