//! Tests of the steps one by one, and of the traps of each.

use super::*;
use crate::Limits;
use crate::decode::tests::PALETTE_PNG;
use image::codecs::png::PngEncoder;
use image::{ColorType, ImageEncoder};

fn rgb(width: usize, height: usize, rgb: Vec<u8>) -> RawSample {
    RawSample::Image(DecodedImage::from_rgb("x.png", Size { width, height }, rgb).unwrap())
}

/// A 2x1 PNG, decoded; `samples` are its raw bytes.
fn png(color: ColorType, samples: &[u8]) -> RawSample {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(samples, 2, 1, color.into()).unwrap();
    RawSample::Image(DecodedImage::decode("x.png", &bytes, Limits::default()).unwrap())
}

fn array(shape: &[usize], data: Vec<f64>) -> RawSample {
    RawSample::Array(Array::new("x.npy", shape.to_vec(), data).unwrap())
}

/// Values as they come out of the raw scale, channels in order.
fn plain(channels: usize, width: usize, height: usize) -> Transformer {
    let size = Size { width, height };
    Transformer { channel_swap: vec![], mean: Mean::Values(vec![]), ..Transformer::new(channels, size) }
}

fn values(transformer: &Transformer, sample: &RawSample) -> Vec<f32> {
    let sample = transformer.apply(sample).unwrap();
    let Size { width, height } = transformer.size;
    assert_eq!(sample.dims, [1, transformer.channels, height, width]);
    sample.data
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, case: &str) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let is_close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(is_close, "{case}: {found:?}, expected {expected:?}");
}

#[test]
fn the_defaults_are_those_of_the_quantizer() {
    let sample = rgb(2, 1, vec![1, 2, 3, 100, 150, 200]);
    let found = values(&Transformer::new(3, Size { width: 2, height: 1 }), &sample);
    assert_close(&found, &[-101.0, 96.0, -115.0, 33.0, -122.0, -23.0], 1e-4, "BGR");
}

#[test]
fn the_steps_come_in_order() {
    let transformer = Transformer {
        channel_swap: vec![1, 2, 0],
        raw_scale: 510.0,
        mean: Mean::Values(vec![1.0, 2.0, 3.5]),
        input_scale: -0.5,
        ..plain(3, 1, 1)
    };
    let found = values(&transformer, &rgb(1, 1, vec![10, 20, 30]));
    assert_close(&found, &[-(40.0 - 1.0) / 2.0, -(60.0 - 2.0) / 2.0, -(20.0 - 3.5) / 2.0], 1e-4, "steps");
}

#[test]
fn an_input_scale_of_zero_is_no_step_and_one_mean_serves_all_channels() {
    let transformer = Transformer { mean: Mean::Values(vec![5.0]), input_scale: 0.0, ..plain(3, 1, 1) };
    assert_close(&values(&transformer, &rgb(1, 1, vec![10, 20, 30])), &[5.0, 15.0, 25.0], 1e-4, "mean");
}

#[test]
fn the_mean_is_subtracted_in_double_precision() {
    let mean = 103.939_000_000_1;
    let transformer = Transformer { mean: Mean::Values(vec![mean]), raw_scale: 1.0, ..plain(1, 1, 1) };
    let found = values(&transformer, &array(&[1, 1], vec![f64::from(103.939_f32)]));
    assert_eq!(found, [(f64::from(103.939_f32) - mean) as f32]);
    assert_ne!(found, [0.0]);
}

#[test]
fn a_mean_image_is_subtracted_pixel_by_pixel() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mean.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 2)}";
    let length = [header.len() as u8, 0];
    let content = [b"\x93NUMPY\x01\0", length.as_slice(), header.as_bytes(), &[1, 2, 3, 4, 5, 60]].concat();
    std::fs::write(&path, content).unwrap();
    let size = Size { width: 2, height: 1 };
    let mean = Mean::read(&path, 3, size, Limits::default()).unwrap();
    let transformer = Transformer { mean, ..plain(3, 2, 1) };
    let found = values(&transformer, &rgb(2, 1, vec![10, 20, 30, 40, 50, 60]));
    assert_close(&found, &[9.0, 38.0, 17.0, 46.0, 25.0, 0.0], 1e-4, "mean image");
    assert_eq!(transformer.possible_range().unwrap(), (-60.0, 254.0));
    assert!(transformer.to_string().contains(&format!("mean image {}", path.display())));
    let other = Transformer { size: Size::square(2), ..transformer };
    assert!(other.validate().unwrap_err().to_string().ends_with("3 channels of 2x1, the net takes 3 of 2x2"));
}

#[test]
fn rows_and_columns_of_a_square_can_be_exchanged() {
    let sample = array(&[2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]);
    let transposed = Transformer { transpose: [2, 1, 0], raw_scale: 1.0, ..plain(1, 2, 2) };
    assert_eq!(values(&transposed, &sample), [1.0, 3.0, 2.0, 4.0]);
}

/// Reference values: scikit-image, `resize(order=1, mode='constant', anti_aliasing=False)` of normalised values.
#[test]
fn resized_pixels_are_those_of_the_reference() {
    let level = |x: usize, y: usize, c: usize| ((37 * y + 53 * x + 91 * c + 13 * x * y * c) % 256) as u8;
    let pixels = (0..3).flat_map(|y| (0..5).flat_map(move |x| (0..3).map(move |c| level(x, y, c))));
    let sample = rgb(5, 3, pixels.collect());
    let shrunk = [49.0, 181.5, 104.5, 189.0, 142.4375, 171.0625, 212.5625, 145.9375, 187.875, 112.625, 80.625, 102.875];
    assert_close(&values(&plain(3, 2, 2), &sample), &shrunk, 1e-3, "shrunk");
    for ((width, height), first, last, sum) in [
        ((7, 4), [0.0, 68.25, 136.5], [22.5, 168.75, 123.0], 9719.286),
        ((3, 6), [13.25, 81.5, 149.75], [73.25, 149.0, 96.75], 6128.667),
    ] {
        let found = values(&plain(3, width, height), &sample);
        let corner = |at: usize| [0, 1, 2].map(|channel| found[channel * width * height + at]);
        assert_close(&corner(0), &first, 1e-3, "top left");
        assert_close(&corner(width * height - 1), &last, 1e-3, "bottom right");
        assert!((found.iter().sum::<f32>() - sum).abs() < 0.02, "{width}x{height}");
    }
}

#[test]
fn constant_and_single_pixels_fill_the_input() {
    assert_close(&values(&plain(3, 4, 3), &rgb(2, 2, vec![60; 12])), &[60.0; 36], 1e-4, "constant");
    assert_close(&values(&plain(3, 2, 2), &rgb(1, 1, vec![7; 3])), &[7.0; 12], 1e-4, "one gray pixel");
    let colour = values(&plain(3, 2, 1), &rgb(1, 1, vec![0, 40, 80]));
    assert_close(&colour, &[0.0, 0.0, 30.0, 30.0, 60.0, 60.0], 1e-4, "one coloured pixel");
}

#[test]
fn every_pixel_type_keeps_all_its_bits() {
    let wide = |values: &[u16]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    let narrow = 65535.0 / 255.0;
    let cases = [
        ("gray", png(ColorType::L8, &[7, 200]), [7.0, 200.0, 7.0, 200.0, 7.0, 200.0]),
        ("alpha is dropped", png(ColorType::Rgba8, &[1, 2, 3, 0, 4, 5, 6, 9]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        ("16 bits", png(ColorType::L16, &wide(&[511, 65535])), [511.0 / narrow, 255.0].repeat(3).try_into().unwrap()),
        (
            "16-bit colours",
            png(ColorType::Rgba16, &wide(&[1, 2, 300, 0, 4, 5, 600, 7])),
            [1.0, 4.0, 2.0, 5.0, 300.0, 600.0].map(|level: f32| level / narrow),
        ),
    ];
    for (name, sample, expected) in cases {
        assert_close(&values(&plain(3, 2, 1), &sample), &expected, 1e-4, name);
    }
}

#[test]
fn palettes_are_expanded() {
    let sample = RawSample::Image(DecodedImage::decode("x.png", PALETTE_PNG, Limits::default()).unwrap());
    let expected = [255.0, 0.0, 1.0, 0.0, 0.0, 128.0, 2.0, 128.0, 0.0, 0.0, 3.0, 0.0];
    assert_close(&values(&plain(3, 2, 2), &sample), &expected, 1e-4, "palette");
}

#[test]
fn a_net_of_one_channel_sees_gray() {
    let transformer = plain(1, 2, 1);
    let colours = rgb(2, 1, vec![255, 0, 0, 10, 100, 200]);
    let expected = [0.2125 * 255.0, 0.2125 * 10.0 + 0.7154 * 100.0 + 0.0721 * 200.0];
    assert_close(&values(&transformer, &colours), &expected, 1e-4, "colours");
    let unscaled = Transformer { raw_scale: 1.0, ..transformer };
    let levels = [(3.0_f64 / 255.0) as f32, (251.0_f64 / 255.0) as f32];
    assert_eq!(values(&unscaled, &png(ColorType::L8, &[3, 251])), levels);
    let net = Transformer::new(1, Size::square(28));
    assert!(net.validate().is_ok() && net.channel_swap.is_empty());
    assert_eq!(net.possible_range().unwrap(), (0.0, 255.0));
}

#[test]
fn a_net_of_fifteen_channels_is_fed_by_arrays() {
    let transformer = Transformer { raw_scale: 2.0, ..Transformer::new(15, Size::square(2)) };
    let sample = array(&[2, 2, 15], (0..60).map(f64::from).collect());
    let found = values(&transformer, &sample);
    assert_eq!((found[0], found[1], found[4], found[59]), (0.0, 30.0, 2.0, 118.0));
    let error = transformer.apply(&rgb(2, 2, vec![0; 12])).unwrap_err();
    assert_eq!(error.to_string(), "x.png has 3 channels, the net takes 15");
    assert!(error.hint().unwrap().contains("arrays"));
}

#[test]
fn arrays_are_stretched_as_images_are() {
    let found =
        values(&plain(1, 2, 1), &array(&[1, 4], vec![0.0, 8.0, 1.0, 0.0].into_iter().map(|x| x / 255.0).collect()));
    assert_close(&found, &[4.0, 0.5], 1e-5, "array");
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let cases = [
        (array(&[4], vec![0.0; 4]), "cannot use array x.npy: its shape [4] is neither [H, W, C] nor [H, W]"),
        (array(&[2, 2], vec![0.0; 4]), "x.npy has 1 channel, the net takes 3"),
        (array(&[3, 2, 2], vec![0.0; 12]), "x.npy has 2 channels, the net takes 3"),
        (array(&[0, 2, 3], vec![]), "cannot use array x.npy: its shape [0, 2, 3] has no pixels"),
        (array(&[1, 1, 3], vec![0.0, f64::NAN, 0.0]), "cannot use array x.npy: value NaN at position 1 is not usable"),
        (
            array(&[1, 1, 3], vec![0.0, 0.0, 1e39]),
            "cannot use array x.npy: value 1000000000000000000000000000000000000000 at position 2 is not usable",
        ),
    ];
    for (sample, message) in cases {
        assert_eq!(plain(3, 2, 2).apply(&sample).unwrap_err().to_string(), message);
    }
}

#[test]
fn unusable_settings_are_errors_with_advice() {
    let base = || Transformer::new(3, Size { width: 4, height: 2 });
    let gray = Transformer { channel_swap: vec![2, 1, 0], ..Transformer::new(1, Size::square(2)) };
    let cases = [
        (Transformer::new(0, Size::square(2)), "a net input of 0 channels and 2x2 pixels holds nothing"),
        (Transformer::new(3, Size { width: 0, height: 2 }), "a net input of 3 channels and 0x2 pixels holds nothing"),
        (Transformer { transpose: [0, 1, 2], ..base() }, "transpose 0,1,2: the net takes the channels first"),
        (Transformer { transpose: [2, 0, 0], ..base() }, "transpose 2,0,0: each of the axes 0, 1 and 2 is needed once"),
        (
            Transformer { transpose: [2, 1, 0], ..base() },
            "transpose 2,1,0: it exchanges rows and columns, and the net's input of 4x2 is not square",
        ),
        (gray, "channel swap 2,1,0: it names 3 channels, the net takes 1"),
        (
            Transformer { channel_swap: vec![0, 1, 3], ..base() },
            "channel swap 0,1,3: there is no channel 3, the net's 3 are numbered from 0",
        ),
        (Transformer { raw_scale: 0.0, ..base() }, "raw scale value 0 is not usable"),
        (Transformer { input_scale: f32::NAN, ..base() }, "input scale value NaN is not usable"),
        (Transformer { mean: Mean::Values(vec![1.0, f64::INFINITY, 0.0]), ..base() }, "mean value inf is not usable"),
        (Transformer { mean: Mean::Values(vec![1.0, 2.0]), ..base() }, "mean has 2 values for 3 channels"),
    ];
    for (transformer, message) in cases {
        assert_eq!(transformer.validate().unwrap_err().to_string(), message);
        assert_eq!(transformer.possible_range().unwrap_err().to_string(), message);
        assert_eq!(transformer.apply(&rgb(1, 1, vec![0; 3])).unwrap_err().to_string(), message);
    }
    let hint = Transformer { channel_swap: vec![2, 1, 0], ..plain(1, 2, 2) }.validate().unwrap_err().hint();
    assert_eq!(hint.unwrap(), "give 0 for a net of one channel");
}

#[test]
fn black_and_white_reach_the_possible_range() {
    let transformer = Transformer { input_scale: -0.017, ..Transformer::new(3, Size::square(1)) };
    let (low, high) = transformer.possible_range().unwrap();
    let ends = [0, 255].map(|level| values(&transformer, &rgb(1, 1, vec![level; 3]))).concat();
    assert_eq!(ends.iter().copied().fold(f32::INFINITY, f32::min), low);
    assert_eq!(ends.iter().copied().fold(f32::NEG_INFINITY, f32::max), high);
}

#[test]
fn the_summary_names_every_step() {
    let text = Transformer::new(3, Size { width: 320, height: 240 }).to_string();
    let expected = "stretch to 320x240 bilinear without antialiasing, transpose 2,0,1, channel swap 2,1,0, raw scale \
         255, mean 104,117,123, input scale 1";
    assert_eq!(text, expected);
    let gray = Transformer { raw_scale: 1.0, input_scale: 0.0, ..Transformer::new(1, Size::square(28)) };
    let expected = "gray, stretch to 28x28 bilinear without antialiasing, transpose 2,0,1, raw scale 1, no mean, no \
         input scale";
    assert_eq!(gray.to_string(), expected);
}
