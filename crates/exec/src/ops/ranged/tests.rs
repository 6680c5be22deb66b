//! Small nodes against sums written out by hand.

use super::*;
use quantize_ir::op::{ProductOutput, RangedConvolution, RangedOutput, RangedPadding, RangedProduct, RangedWindow};
use quantize_numerics::ranged::Reading;

fn run(work: &RangedWork, operands: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let slots: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
    evaluate(work, Operands(&slots), None)
}

fn window(size: usize, stride: usize, padding: RangedPadding) -> RangedWindow {
    RangedWindow { size: [size; 2], strides: [stride; 2], dilations: [1; 2], padding }
}

fn convolution(is_depthwise: bool, output: RangedOutput) -> RangedWork {
    RangedWork::Convolution(RangedConvolution {
        input: Codes::Unsigned,
        is_depthwise,
        window: window(2, 1, RangedPadding::Same),
        has_bias: true,
        has_relu: true,
        output,
    })
}

fn scalar(value: f32) -> Tensor {
    Tensor::scalar(value)
}

/// `[1, 2, 2, 2]` codes from 1 to 8.
fn image() -> Tensor {
    Tensor::new([1, 2, 2, 2], (1u8..=8).collect()).unwrap()
}

#[test]
fn sums_are_those_of_the_window() {
    // Two inputs, one output: taps of the first input are 1, of the second -1, but for 10 at the last tap.
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, -1, 1, -1, 1, -1, 10, -1]).unwrap();
    let output = RangedOutput::Wide { has_summand: false };
    let operands = [
        &image(),
        &weights,
        &Tensor::vector(vec![0.5f32]),
        &scalar(0.0),
        &scalar(255.0),
        &scalar(-127.0),
        &scalar(127.0),
    ];
    let results = run(&convolution(false, output), &operands).unwrap();
    // One unit is 1 * 1; half a unit of bias takes 59 to the even 60. Padding stands behind.
    assert_eq!(results[0], Tensor::new([1, 2, 2, 1], vec![60i32, 0, 0, 0]).unwrap());
    assert_eq!(results[2], scalar((1u64 << 31) as f32));
}

#[test]
fn depthwise_channels_stay_apart_and_are_narrowed() {
    // One filter for each of two inputs, with ranges of their own.
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, 2, 0, 0, 0, 0, 0, 0]).unwrap();
    let bias = Tensor::vector(vec![0f32, 1.0]);
    let (low, high) = (Tensor::vector(vec![-127f32, -254.0]), Tensor::vector(vec![127f32, 254.0]));
    let output = RangedOutput::Narrow { codes: Codes::Unsigned, summand: None };
    let operands = [&image(), &weights, &bias, &scalar(0.0), &scalar(255.0), &low, &high, &scalar(0.0), &scalar(510.0)];
    let results = run(&convolution(true, output), &operands).unwrap();
    // A step of the result is 2: x / 2 to even, and (4 x + 1) / 2.
    let expected = vec![0u8, 4, 2, 8, 2, 12, 4, 16];
    assert_eq!(results[0], Tensor::new([1, 2, 2, 2], expected).unwrap());
}

#[test]
fn summands_are_added_before_rounding() {
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let bias = Tensor::vector(vec![-3i32]);
    let summand = Tensor::new([1, 2, 2, 1], vec![10u8, 20, 30, 40]).unwrap();
    let range = [scalar(0.0), scalar(255.0)];
    let output = RangedOutput::Narrow { codes: Codes::Unsigned, summand: Some(Codes::Unsigned) };
    let half = scalar(127.5);
    let image = image();
    let operands = [
        &image,
        &weights,
        &bias,
        &range[0],
        &range[1],
        &scalar(-127.0),
        &scalar(127.0),
        &range[0],
        &range[1],
        &summand,
        &range[0],
        &half,
    ];
    let results = run(&convolution(false, output), &operands).unwrap();
    // x - 3 + s / 2
    assert_eq!(results[0], Tensor::new([1, 2, 2, 1], vec![3u8, 10, 17, 24]).unwrap());
    let error = run(&convolution(false, output), &operands[..10]).unwrap_err();
    assert_eq!(error, OpError::Missing { slot: 9 });
}

#[test]
fn sums_with_signed_codes_are_cut_off_where_the_runtime_does() {
    let weights = Tensor::new([1, 1, 1, 1], vec![1i8]).unwrap();
    let (zero, top, weight) = (scalar(0.0), scalar(255.0), scalar(127.0));
    let x = Tensor::new([1, 1, 1, 2], vec![100u8, 200]).unwrap();
    let x = x.reshaped([1, 1, 2, 1]).unwrap();
    let summand = Tensor::new([1, 1, 2, 1], vec![-20i8, 10]).unwrap();
    let low = scalar(-127.0);
    let operands =
        [&x, &weights, &Tensor::vector(vec![0f32]), &zero, &top, &low, &weight, &zero, &top, &summand, &low, &weight];
    let output = RangedOutput::Narrow { codes: Codes::Unsigned, summand: Some(Codes::Signed) };
    let results = run(&convolution(false, output), &operands).unwrap();
    assert_eq!(results[0].as_slice::<u8>().unwrap(), [80, 127]);
}

#[test]
fn packed_weights_serve_images_of_any_size() {
    let weights = Tensor::new([2, 2, 2, 1], vec![1i8, -1, 1, -1, 1, -1, 10, -1]).unwrap();
    let rest = [Tensor::vector(vec![0.5f32]), scalar(0.0), scalar(255.0), scalar(-127.0), scalar(127.0)];
    let work = convolution(false, RangedOutput::Wide { has_summand: false });
    let packing = RangedPacking::default();
    let wide = Tensor::new([1, 1, 4, 2], (1u8..=8).collect()).unwrap();
    for x in [image(), wide, image()] {
        let operands: Vec<&Tensor> = [&x, &weights].into_iter().chain(&rest).collect();
        let slots: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        let packed = evaluate(&work, Operands(&slots), Some(&packing)).unwrap();
        assert_eq!(packed, run(&work, &operands).unwrap(), "{:?}", x.shape());
    }
}

#[test]
fn products_are_codes_or_reals() {
    let x = Tensor::new([2, 2], vec![1u8, 2, 3, 4]).unwrap();
    let weights = Tensor::new([2, 3], vec![1i8, 0, -1, 2, 1, 0]).unwrap();
    let bias = Tensor::vector(vec![1i32, 0, 0]);
    let (zero, top, low, weight) = (scalar(0.0), scalar(255.0), scalar(-127.0), scalar(127.0));
    let operands = [&x, &weights, &bias, &zero, &top, &low, &weight, &zero, &top];
    let product = |has_relu, output| RangedWork::Product(RangedProduct { input: Codes::Unsigned, has_relu, output });
    let reals = run(&product(false, ProductOutput::Reals), &operands).unwrap();
    assert_eq!(reals, [Tensor::new([2, 3], vec![6f32, 2.0, -1.0, 12.0, 4.0, -3.0]).unwrap()]);
    let codes = run(&product(true, ProductOutput::Codes(Codes::Unsigned)), &operands).unwrap();
    assert_eq!(codes[0], Tensor::new([2, 3], vec![6u8, 2, 0, 12, 4, 0]).unwrap());
    assert_eq!(codes.len(), 3);
    assert!(run(&product(false, ProductOutput::Reals), &operands[..2]).is_err());
}

#[test]
fn pools_look_at_what_exists() {
    let operands = [&image(), &scalar(0.0), &scalar(1.0)];
    let same = window(2, 1, RangedPadding::Same);
    let max = run(&RangedWork::MaxPool(same, Codes::Unsigned), &operands).unwrap();
    assert_eq!(max[0].as_slice::<u8>().unwrap(), [7, 8, 7, 8, 7, 8, 7, 8]);
    let average = run(&RangedWork::AveragePool(same, Codes::Unsigned), &operands).unwrap();
    assert_eq!(average[0].as_slice::<u8>().unwrap(), [4, 5, 5, 6, 6, 7, 7, 8]);
    let too_large = window(3, 1, RangedPadding::Explicit([0; 4]));
    assert!(run(&RangedWork::MaxPool(too_large, Codes::Unsigned), &operands).is_err());
}

#[test]
fn joined_codes_get_the_range_that_all_need() {
    let codes = |codes: [u8; 2]| Tensor::new([1, 2], codes.to_vec()).unwrap();
    let (a, b, axis) = (codes([100, 255]), codes([7, 8]), Tensor::scalar(-1i32));
    let operands = [&a, &b, &axis, &scalar(0.0), &scalar(0.0), &scalar(1.0), &scalar(2.0)];
    let joined = run(&RangedWork::Join { parts: 2, codes: Codes::Unsigned }, &operands).unwrap();
    assert_eq!(joined[0], Tensor::new([1, 4], vec![50u8, 128, 7, 8]).unwrap());
    assert_eq!(joined[2], scalar(2.0));
    assert!(run(&RangedWork::Join { parts: 2, codes: Codes::Unsigned }, &operands[..6]).is_err());
}

#[test]
fn channels_are_narrowed_by_ranges_of_their_own() {
    let sums = Tensor::new([1, 1, 1, 2], vec![1i32 << 30, -(1 << 29)]).unwrap();
    let (low, high) = (Tensor::vector(vec![-2f32, -8.0]), Tensor::vector(vec![2f32, 8.0]));
    let used = run(&RangedWork::UsedChannelRange(1e30), &[&sums, &low, &high]).unwrap();
    assert_eq!(used, [scalar(-2.0), scalar(2.0)]);
    let narrow = run(&RangedWork::NarrowChannels(Codes::Signed), &[&sums, &low, &high, &used[0], &used[1]]).unwrap();
    assert_eq!(narrow[0].as_slice::<i8>().unwrap(), [64, -127]);
}

#[test]
fn ranges_without_meaning_are_refused() {
    let x = Tensor::vector(vec![1f32]);
    let quantize = RangedWork::Quantize(Codes::Unsigned);
    assert!(run(&quantize, &[&x, &scalar(0.0), &scalar(f32::NAN)]).is_err());
    assert!(run(&quantize, &[&x, &scalar(0.0)]).is_err());
    assert!(run(&quantize, &[&x, &scalar(0.0), &Tensor::vector(vec![1f32, 2.0])]).is_err());
}

/// 32-bit codes take the range of the sums, and narrow to all codes of it.
#[test]
fn what_is_found_while_running_is_narrowed_and_read() {
    let sums = Tensor::vector(vec![0i32, 1 << 20, 1 << 30]);
    let wide = [scalar(-4.0), scalar(4.0)];
    let used = run(&RangedWork::UsedRange, &[&sums, &wide[0], &wide[1]]).unwrap();
    assert_eq!((used.len(), &used[0]), (2, &scalar(0.0)));
    let narrow = run(&RangedWork::Narrow, &[&sums, &wide[0], &wide[1], &used[0], &used[1]]).unwrap();
    assert_eq!(narrow[0].as_slice::<u8>().unwrap(), [0, 0, 255]);
    let read = RangedWork::Dequantize { codes: Codes::Unsigned, reading: Reading::MinFirst };
    let reals = run(&read, &[&narrow[0], &narrow[1], &narrow[2]]).unwrap();
    assert!((reals[0].as_slice::<f32>().unwrap()[2] - 2.0).abs() < 1e-6, "{reals:?}");
}
