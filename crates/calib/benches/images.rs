//! Speed of making model inputs of JPEG files, by stage: 500 x 375 pixels, decoded, and from there to 224 x 224.

use criterion::{Criterion, criterion_group, criterion_main};
use image::codecs::jpeg::JpegEncoder;
use quantize_calib::{DecodedImage, Interpolation, Layout, Limits, Preprocess, Preset, Size};
use std::time::Duration;

/// A JPEG file with detail at every scale.
fn photo() -> Vec<u8> {
    let pixels = image::RgbImage::from_fn(500, 375, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let wave = |period: f32| ((x / period).sin() + (y / period * 0.7).cos()) * 20.0;
        let light = 128.0 + wave(2.0) + wave(9.0) + wave(80.0);
        image::Rgb([light as u8, (light * 0.8 + wave(30.0)) as u8, (light * 0.6 - wave(150.0)) as u8])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&pixels).expect("a sound image");
    bytes
}

fn bench(c: &mut Criterion) {
    let bytes = photo();
    let image = DecodedImage::decode("photo", &bytes, Limits::default()).expect("a sound file");
    let imagenet = Preset::named("imagenet").expect("a preset").for_input(Size::square(224), Layout::Nchw);
    let mut group = c.benchmark_group("images");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    group.bench_function("decode", |b| b.iter(|| DecodedImage::decode("photo", &bytes, Limits::default())));
    let crop = Preprocess { resize: None, ..imagenet.clone() };
    group.bench_function("crop, normalise", |b| b.iter(|| crop.apply(&image)));
    for (interpolation, name) in Interpolation::ALL {
        let preprocess = Preprocess { interpolation, ..imagenet.clone() };
        group.bench_function(format!("resize {name}, crop, normalise"), |b| b.iter(|| preprocess.apply(&image)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
