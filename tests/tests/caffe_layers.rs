//! What each Caffe layer computes, by hand: the import and the executor together.
#![allow(clippy::unwrap_used)]

use quantize_caffe::import;
use quantize_ir::Tensor;
use quantize_tests::caffe::{blob, parse, run, stored};

/// A layer that reads `x`, its weights, and what it makes of an input.
struct Case {
    name: &'static str,
    /// Type and parameters.
    layer: &'static str,
    weights: Vec<Vec<u8>>,
    input: (&'static [usize], Vec<f32>),
    expected: (&'static [usize], Vec<f32>),
}

/// The numbers from 0 on.
fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32).collect()
}

fn net(layer: &str, shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(|n| format!("dim: {n}")).collect();
    format!(
        "layer {{ name: 'in' type: 'Input' top: 'x' input_param {{ shape {{ {} }} }} }}
         layer {{ name: 'layer' bottom: 'x' top: 'y' {layer} }}",
        dims.join(" ")
    )
}

fn check(case: &Case) {
    let name = case.name;
    let text = net(case.layer, case.input.0);
    let weights = stored("layer", &case.weights);
    let document = parse(text.as_bytes(), &weights).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (graph, problems) = import(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(problems.is_empty(), "{name}: {problems:?}");
    let input = Tensor::new(case.input.0, case.input.1.clone()).unwrap();
    let values = run(&graph, &input);
    let found = &values["y"];
    assert_eq!(found.shape(), case.expected.0, "{name}");
    let found = found.as_slice::<f32>().unwrap();
    for (found, expected) in found.iter().zip(&case.expected.1) {
        let close = (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
        assert!(close, "{name}: {found:?} instead of {expected:?} in {:?}", case.expected.1);
    }
}

/// A layer without weights that keeps the shape.
fn each(name: &'static str, layer: &'static str, pairs: &[(f32, f32)]) -> Case {
    let (input, expected) = pairs.iter().copied().unzip();
    let shape: &'static [usize] = match pairs.len() {
        2 => &[1, 2],
        3 => &[1, 3],
        n => panic!("{n} pairs"),
    };
    Case { name, layer, weights: vec![], input: (shape, input), expected: (shape, expected) }
}

fn e(power: f32) -> f32 {
    power.exp()
}

#[test]
fn functions_of_one_element() {
    let cases = [
        each("ReLU", "type: 'ReLU'", &[(-2.0, 0.0), (3.0, 3.0)]),
        each("leaky ReLU", "type: 'ReLU' relu_param { negative_slope: .5 }", &[(-2.0, -1.0), (3.0, 3.0)]),
        each("ReLU6", "type: 'ReLU6'", &[(-2.0, 0.0), (3.0, 3.0), (9.0, 6.0)]),
        each("ELU", "type: 'ELU' elu_param { alpha: 2 }", &[(-1.0, 2.0 * (e(-1.0) - 1.0)), (3.0, 3.0)]),
        each("Sigmoid", "type: 'Sigmoid'", &[(0.0, 0.5), (1.0, 1.0 / (1.0 + e(-1.0)))]),
        each("TanH", "type: 'TanH'", &[(0.0, 0.0), (1.0, 1f32.tanh())]),
        each("AbsVal", "type: 'AbsVal'", &[(-2.0, 2.0), (3.0, 3.0)]),
        each("BNLL", "type: 'BNLL'", &[(0.0, 2f32.ln()), (1.0, (1.0 + e(1.0)).ln())]),
        each("Swish", "type: 'Swish' swish_param { beta: 2 }", &[(0.0, 0.0), (1.0, 1.0 / (1.0 + e(-2.0)))]),
        each("Clip", "type: 'Clip' clip_param { min: -1 max: 2 }", &[(-3.0, -1.0), (0.5, 0.5), (3.0, 2.0)]),
        each("Power", "type: 'Power' power_param { power: 2 scale: 3 shift: 1 }", &[(1.0, 16.0), (-1.0, 4.0)]),
        each("Power, shift alone", "type: 'Power' power_param { shift: 1 }", &[(1.0, 2.0), (-1.0, 0.0)]),
        each("Power of nothing", "type: 'Power'", &[(1.0, 1.0), (-1.0, -1.0)]),
        each("Exp", "type: 'Exp'", &[(0.0, 1.0), (2.0, e(2.0))]),
        each("Exp, base 2", "type: 'Exp' exp_param { base: 2 scale: 3 shift: 1 }", &[(0.0, 2.0), (1.0, 16.0)]),
        each("Log", "type: 'Log'", &[(1.0, 0.0), (2.0, 2f32.ln())]),
        each("Log, base 2", "type: 'Log' log_param { base: 2 scale: 3 shift: 1 }", &[(1.0, 2.0), (5.0, 4.0)]),
        each("Dropout", "type: 'Dropout' dropout_param { dropout_ratio: 0.5 }", &[(1.0, 1.0), (2.0, 2.0)]),
        each(
            "Dropout of forks",
            "type: 'Dropout' dropout_param { dropout_ratio: 0.25 scale_train: false }",
            &[(4.0, 3.0), (8.0, 6.0)],
        ),
        each("Softmax", "type: 'Softmax'", &[(0.0, 0.25), (3f32.ln(), 0.75)]),
    ];
    cases.iter().for_each(check);
}

#[test]
fn layers_with_weights() {
    let cases = [
        Case {
            name: "PReLU",
            layer: "type: 'PReLU'",
            weights: vec![blob(&[2], &[0.5, 0.25])],
            input: (&[1, 2, 1, 2], vec![-4.0, 1.0, -4.0, 2.0]),
            expected: (&[1, 2, 1, 2], vec![-2.0, 1.0, -1.0, 2.0]),
        },
        Case {
            name: "PReLU with one slope",
            layer: "type: 'PReLU' prelu_param { channel_shared: true }",
            weights: vec![blob(&[], &[0.5])],
            input: (&[1, 2], vec![-4.0, 1.0]),
            expected: (&[1, 2], vec![-2.0, 1.0]),
        },
        Case {
            name: "InnerProduct",
            layer: "type: 'InnerProduct' inner_product_param { num_output: 2 }",
            weights: vec![blob(&[2, 3], &ramp(6)), blob(&[2], &[10.0, 20.0])],
            input: (&[1, 3, 1, 1], vec![1.0, 2.0, 3.0]),
            expected: (&[1, 2], vec![18.0, 46.0]),
        },
        Case {
            name: "InnerProduct, transposed",
            layer: "type: 'InnerProduct' inner_product_param { num_output: 2 transpose: true bias_term: false }",
            weights: vec![blob(&[3, 2], &ramp(6))],
            input: (&[1, 3], vec![1.0, 2.0, 3.0]),
            expected: (&[1, 2], vec![16.0, 22.0]),
        },
        Case {
            name: "Convolution of width alone",
            layer: "type: 'Convolution' convolution_param { num_output: 1 kernel_h: 1 kernel_w: 2 stride_h: 1 \
                    stride_w: 2 pad_w: 1 bias_term: false }",
            weights: vec![blob(&[1, 1, 1, 2], &[1.0, 10.0])],
            input: (&[1, 1, 2, 3], ramp(6)),
            expected: (&[1, 1, 2, 2], vec![0.0, 21.0, 30.0, 54.0]),
        },
        Case {
            name: "ConvolutionDepthwise",
            layer: "type: 'DepthwiseConvolution' convolution_param { num_output: 2 kernel_size: 1 }",
            weights: vec![blob(&[2, 1, 1, 1], &[2.0, 3.0]), blob(&[2], &[1.0, 0.0])],
            input: (&[1, 2, 1, 1], vec![5.0, 7.0]),
            expected: (&[1, 2, 1, 1], vec![11.0, 21.0]),
        },
        Case {
            name: "Deconvolution",
            layer: "type: 'Deconvolution' convolution_param { num_output: 1 kernel_size: 3 stride: 2 pad: 1 }",
            weights: vec![blob(&[1, 1, 3, 3], &[0., 0., 0., 1., 2., 3., 0., 0., 0.]), blob(&[1], &[0.5])],
            input: (&[1, 1, 1, 2], vec![1.0, 10.0]),
            expected: (&[1, 1, 1, 3], vec![2.5, 13.5, 20.5]),
        },
        Case {
            name: "BatchNorm",
            layer: "type: 'BatchNorm' batch_norm_param { eps: 0 }",
            weights: vec![blob(&[2], &[2.0, 4.0]), blob(&[2], &[8.0, 18.0]), blob(&[1], &[2.0])],
            input: (&[1, 2, 1, 1], vec![5.0, 8.0]),
            expected: (&[1, 2, 1, 1], vec![2.0, 2.0]),
        },
        Case {
            name: "BatchNorm of factor 0",
            layer: "type: 'BatchNorm' batch_norm_param { eps: 0.25 }",
            weights: vec![blob(&[2], &[2.0, 4.0]), blob(&[2], &[8.0, 18.0]), blob(&[1], &[0.0])],
            input: (&[1, 2], vec![5.0, 8.0]),
            expected: (&[1, 2], vec![10.0, 16.0]),
        },
        Case {
            name: "BatchNorm with scale and bias",
            layer: "type: 'BatchNorm' batch_norm_param { eps: 0 }",
            weights: vec![
                blob(&[1, 1, 1, 1], &[1.0]),
                blob(&[1, 1, 1, 1], &[4.0]),
                blob(&[1], &[1.0]),
                blob(&[1, 1, 1, 1], &[3.0]),
                blob(&[1, 1, 1, 1], &[7.0]),
            ],
            input: (&[1, 1, 1, 1], vec![5.0]),
            expected: (&[1, 1, 1, 1], vec![13.0]),
        },
        Case {
            name: "BN",
            layer: "type: 'BN' bn_param { eps: 0 }",
            weights: [2.0, 1.0, 3.0, 4.0].map(|number| blob(&[1, 1, 1, 1], &[number])).to_vec(),
            input: (&[1, 1, 1, 2], vec![5.0, 1.0]),
            expected: (&[1, 1, 1, 2], vec![3.0, -1.0]),
        },
        Case {
            name: "BN, folded",
            layer: "type: 'BN'",
            weights: [2.0, 1.0].map(|number| blob(&[1, 1, 1, 1], &[number])).to_vec(),
            input: (&[1, 1, 1, 2], vec![5.0, 1.0]),
            expected: (&[1, 1, 1, 2], vec![11.0, 3.0]),
        },
        Case {
            name: "Scale",
            layer: "type: 'Scale' scale_param { bias_term: true }",
            weights: vec![blob(&[2], &[2.0, 3.0]), blob(&[2], &[1.0, -1.0])],
            input: (&[1, 2, 1, 1], vec![5.0, 7.0]),
            expected: (&[1, 2, 1, 1], vec![11.0, 20.0]),
        },
        Case {
            name: "Scale of all by one number",
            layer: "type: 'Scale' scale_param { num_axes: 0 }",
            weights: vec![blob(&[], &[2.0])],
            input: (&[1, 2], vec![5.0, 7.0]),
            expected: (&[1, 2], vec![10.0, 14.0]),
        },
        Case {
            name: "Scale along height and width",
            layer: "type: 'Scale' scale_param { axis: 2 num_axes: -1 bias_term: true }",
            weights: vec![blob(&[1, 2], &[2.0, 3.0]), blob(&[1, 2], &[1.0, -1.0])],
            input: (&[1, 2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]),
            expected: (&[1, 2, 1, 2], vec![3.0, 5.0, 7.0, 11.0]),
        },
        Case {
            name: "Bias",
            layer: "type: 'Bias'",
            weights: vec![blob(&[2], &[2.0, 3.0])],
            input: (&[1, 2, 1, 1], vec![5.0, 7.0]),
            expected: (&[1, 2, 1, 1], vec![7.0, 10.0]),
        },
        Case {
            name: "Normalize over a sample",
            layer: "type: 'Normalize'",
            weights: vec![blob(&[1], &[10.0])],
            input: (&[1, 2, 1, 2], vec![1.0, 5.0, 3.0, 1.0]),
            expected: (&[1, 2, 1, 2], vec![10. / 6., 50. / 6., 30. / 6., 10. / 6.]),
        },
        Case {
            name: "Normalize over channels",
            layer: "type: 'Normalize' norm_param { across_spatial: false channel_shared: false }",
            weights: vec![blob(&[2], &[10.0, 20.0])],
            input: (&[1, 2, 1, 2], vec![3.0, 5.0, 4.0, 12.0]),
            expected: (&[1, 2, 1, 2], vec![6.0, 50. / 13., 16.0, 240. / 13.]),
        },
    ];
    cases.iter().for_each(check);
}

#[test]
fn layers_that_move_reduce_or_normalize() {
    let plain = |name, layer, input, expected| Case { name, layer, weights: vec![], input, expected };
    let cases = [
        plain("Flatten", "type: 'Flatten'", (&[1, 2, 1, 2], ramp(4)), (&[1, 4], ramp(4))),
        plain(
            "Flatten up to an axis",
            "type: 'Flatten' flatten_param { axis: 1 end_axis: 2 }",
            (&[1, 2, 3, 2], ramp(12)),
            (&[1, 6, 2], ramp(12)),
        ),
        plain(
            "Reshape",
            "type: 'Reshape' reshape_param { shape { dim: 0 dim: -1 dim: 2 } }",
            (&[1, 3, 4, 1], ramp(12)),
            (&[1, 6, 2], ramp(12)),
        ),
        plain(
            "Reshape of some axes",
            "type: 'Reshape' reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }",
            (&[1, 6, 2], ramp(12)),
            (&[1, 2, 3, 2], ramp(12)),
        ),
        plain(
            "Reshape that adds an axis",
            "type: 'Reshape' reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }",
            (&[1, 2, 3], ramp(6)),
            (&[1, 2, 3, 1], ramp(6)),
        ),
        plain(
            "Permute",
            "type: 'Permute' permute_param { order: 0 order: 2 }",
            (&[1, 2, 3, 1], ramp(6)),
            (&[1, 3, 2, 1], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ),
        plain(
            "Tile",
            "type: 'Tile' tile_param { tiles: 2 }",
            (&[1, 2, 1], ramp(2)),
            (&[1, 4, 1], vec![0.0, 1.0, 0.0, 1.0]),
        ),
        plain(
            "Reduction",
            "type: 'Reduction' reduction_param { operation: ASUM axis: 1 coeff: 2 }",
            (&[1, 2, 2], vec![1.0, -2.0, 3.0, -4.0]),
            (&[1], vec![20.0]),
        ),
        plain(
            "ArgMax along an axis",
            "type: 'ArgMax' argmax_param { axis: 1 }",
            (&[1, 3, 2], vec![1.0, 9.0, 5.0, 2.0, 5.0, 3.0]),
            (&[1, 1, 2], vec![2.0, 0.0]),
        ),
        plain("ArgMax", "type: 'ArgMax'", (&[1, 3, 1, 1], vec![1.0, 9.0, 5.0]), (&[1, 1, 1], vec![1.0])),
        plain(
            "MVN",
            "type: 'MVN' mvn_param { eps: 1 }",
            (&[1, 2, 1, 2], vec![1.0, 3.0, 10.0, 20.0]),
            (&[1, 2, 1, 2], vec![-0.5, 0.5, -5. / 6., 5. / 6.]),
        ),
        plain(
            "MVN of the mean alone",
            "type: 'MVN' mvn_param { normalize_variance: false across_channels: true }",
            (&[1, 2, 1, 2], vec![1.0, 3.0, 4.0, 8.0]),
            (&[1, 2, 1, 2], vec![-3.0, -1.0, 0.0, 4.0]),
        ),
        plain(
            "LRN across channels",
            "type: 'LRN' lrn_param { local_size: 3 alpha: 3 beta: 1 k: 2 }",
            (&[1, 3, 1, 1], vec![1.0, 2.0, 3.0]),
            (&[1, 3, 1, 1], vec![1. / 7., 2. / 16., 3. / 15.]),
        ),
        plain(
            "LRN within a channel",
            "type: 'LRN' lrn_param { local_size: 3 alpha: 9 beta: 1 k: 2 norm_region: WITHIN_CHANNEL }",
            (&[1, 1, 1, 3], vec![1.0, 2.0, 3.0]),
            (&[1, 1, 1, 3], vec![1. / 6., 2. / 15., 3. / 14.]),
        ),
        plain(
            "MAX pooling rounds up",
            "type: 'Pooling' pooling_param { kernel_size: 2 stride: 2 }",
            (&[1, 1, 1, 3], ramp(3)),
            (&[1, 1, 1, 2], vec![1.0, 2.0]),
        ),
        plain(
            "MAX pooling of forks rounds down",
            "type: 'Pooling' pooling_param { pool: 0 kernel_h: 1 kernel_w: 2 stride: 2 ceil_mode: false }",
            (&[1, 1, 1, 3], ramp(3)),
            (&[1, 1, 1, 1], vec![1.0]),
        ),
        plain(
            "AVE pooling counts padding, not what is beyond",
            "type: 'Pooling' pooling_param { pool: AVE kernel_h: 1 kernel_w: 3 stride: 2 pad_w: 1 }",
            (&[1, 1, 1, 4], vec![3.0, 6.0, 9.0, 12.0]),
            (&[1, 1, 1, 3], vec![3.0, 9.0, 6.0]),
        ),
        plain(
            "global pooling",
            "type: 'Pooling' pooling_param { pool: AVE global_pooling: true }",
            (&[1, 2, 1, 2], ramp(4)),
            (&[1, 2, 1, 1], vec![0.5, 2.5]),
        ),
        plain("Concat of one", "type: 'Concat' concat_param { concat_dim: 1 }", (&[1, 2], ramp(2)), (&[1, 2], ramp(2))),
    ];
    cases.iter().for_each(check);
}

/// Layers of several blobs: their lines, and the value of `y` for `x` = `[[1, 2], [3, 4]]` of shape `[1, 2, 1, 2]`.
#[test]
fn layers_of_several_blobs() {
    let double = "layer { name: 'd' type: 'Power' bottom: 'x' top: 'd' power_param { scale: 2 } }";
    let mean = "layer { name: 'd' type: 'Pooling' bottom: 'x' top: 'p' pooling_param { pool: AVE global_pooling: 1 } }
                layer { name: 'r' type: 'Flatten' bottom: 'p' top: 'd' }";
    let cases: [(&str, &str, &str, Vec<f32>); 13] = [
        ("sum", double, "type: 'Eltwise' bottom: 'x' bottom: 'd'", vec![3.0, 6.0, 9.0, 12.0]),
        (
            "difference",
            double,
            "type: 'Eltwise' bottom: 'x' bottom: 'd' eltwise_param { coeff: 1 coeff: -1 }",
            vec![-1.0, -2.0, -3.0, -4.0],
        ),
        (
            "reversed",
            double,
            "type: 'Eltwise' bottom: 'x' bottom: 'd' eltwise_param { coeff: [-1, 1] }",
            ramp(5)[1..].to_vec(),
        ),
        (
            "weighted",
            double,
            "type: 'Eltwise' bottom: 'x' bottom: 'd' bottom: 'x' eltwise_param { coeff: [3, 1, .5] }",
            vec![5.5, 11.0, 16.5, 22.0],
        ),
        (
            "product",
            double,
            "type: 'Eltwise' bottom: 'x' bottom: 'd' bottom: 'x' eltwise_param { operation: PROD }",
            vec![2.0, 16.0, 54.0, 128.0],
        ),
        (
            "maximum",
            double,
            "type: 'Eltwise' bottom: 'x' bottom: 'd' eltwise_param { operation: MAX }",
            vec![2.0, 4.0, 6.0, 8.0],
        ),
        ("twice the same", double, "type: 'Eltwise' bottom: 'd' bottom: 'd'", vec![4.0, 8.0, 12.0, 16.0]),
        (
            "scale by a blob",
            mean,
            "type: 'Scale' bottom: 'x' bottom: 'd' scale_param { axis: 0 }",
            vec![1.5, 3.0, 10.5, 14.0],
        ),
        (
            "bias by a blob",
            mean,
            "type: 'Bias' bottom: 'x' bottom: 'd' bias_param { axis: 0 }",
            vec![2.5, 3.5, 6.5, 7.5],
        ),
        (
            "concat",
            double,
            "type: 'Concat' bottom: 'x' bottom: 'd' concat_param { axis: -1 }",
            vec![1., 2., 2., 4., 3., 4., 6., 8.],
        ),
        ("crop", double, "type: 'Crop' bottom: 'x' bottom: 'd' crop_param { axis: 1 }", ramp(5)[1..].to_vec()),
        (
            "slices",
            "layer { name: 's' type: 'Slice' bottom: 'x' top: 'a' top: 'b' slice_param { axis: 1 } }",
            "type: 'Eltwise' bottom: 'a' bottom: 'b'",
            vec![4.0, 6.0],
        ),
        (
            "in place",
            "layer { name: 'i' type: 'Power' bottom: 'x' top: 'x' power_param { scale: 2 } }
             layer { name: 'j' type: 'Dropout' bottom: 'x' top: 'x' }",
            "type: 'Eltwise' bottom: 'x' bottom: 'x'",
            vec![4.0, 8.0, 12.0, 16.0],
        ),
    ];
    for (name, before, layer, expected) in cases {
        let text =
            format!("input: 'x' input_shape {{ dim: [1, 2, 1, 2] }} {before} layer {{ name: 'y' top: 'y' {layer} }}");
        let document = parse(text.as_bytes(), &stored("none", &[])).unwrap();
        let (graph, problems) = import(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(problems.is_empty(), "{name}: {problems:?}");
        let values = run(&graph, &Tensor::new([1, 2, 1, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap());
        assert_eq!(values["y"].as_slice::<f32>().unwrap(), expected, "{name}");
    }
}

#[test]
fn the_batch_may_be_any() {
    let text = net("type: 'Flatten'", &[7, 2, 1, 1]);
    let (graph, _) = import(&parse(text.as_bytes(), &stored("none", &[])).unwrap()).unwrap();
    for batch in [1, 3] {
        let values = run(&graph, &Tensor::new([batch, 2, 1, 1], ramp(2 * batch)).unwrap());
        assert_eq!(values["y"].shape(), [batch, 2]);
    }
}
