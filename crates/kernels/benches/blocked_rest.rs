//! Speed of what a network computes besides dense convolutions, on reals and on codes: depthwise convolution in
//! operations (a multiplication and an addition are two), pooling, arithmetic and conversions in elements of the
//! result. `QUANTIZE_ISA` chooses the instruction set.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use quantize_kernels::blocked::{self, Activation, Arithmetic, Blocked, Filter, PackedDepthwise, Shape};
use quantize_kernels::codes::{
    self, Addition, CodeRange, Grid, Mean, Output, PackedCodesDepthwise, Requantize, Rounding, Sign,
};
use quantize_kernels::{Axis, Buffer, Isa, Peak, peak};
use std::time::Duration;

/// Channels, input size, kernel size, stride: the layers of MobileNetV1, then some of EfficientNet-Lite0.
const DEPTHWISE: [(usize, usize, usize, usize); 12] = [
    (32, 112, 3, 1),
    (64, 112, 3, 2),
    (128, 56, 3, 1),
    (128, 56, 3, 2),
    (256, 28, 3, 1),
    (256, 28, 3, 2),
    (512, 14, 3, 1),
    (512, 14, 3, 2),
    (1024, 7, 3, 1),
    (144, 56, 5, 2),
    (240, 28, 5, 1),
    (672, 14, 5, 1),
];

/// Channels, input size, stride of windows of 3 by 3: ResNet's and one of GoogLeNet's.
const POOLS: [(usize, usize, usize); 2] = [(64, 112, 2), (192, 28, 1)];

/// Channels and size of the result of ResNet-50's first residual additions.
const RESIDUAL: (usize, usize) = (256, 56);

const RELU: Activation = Activation::Clamp { lo: 0.0, hi: f32::INFINITY };

fn reals(len: usize) -> Buffer<f32> {
    Buffer::from(
        &(0..len).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8 as f32 / 32.0 - 4.0).collect::<Vec<_>>()[..],
    )
}

fn bytes(len: usize) -> Buffer<u8> {
    Buffer::from(&(0..len).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect::<Vec<_>>()[..])
}

fn axis(input: usize, kernel: usize, stride: usize) -> Axis {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
}

fn square(channels: usize, size: usize) -> Shape {
    Shape { batch: 1, channels, height: size, width: size, lanes: Isa::active().lanes() }
}

fn group<'a>(c: &'a mut Criterion, what: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("{what}, {}", Isa::active().name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    group
}

fn depthwise(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = group(c, "depthwise convolution");
    group.throughput(Throughput::Elements(peak(isa, Peak::MultiplyAdd, 100_000)));
    group.bench_function("peak of fp32", |b| b.iter(|| peak(isa, Peak::MultiplyAdd, 100_000)));
    for (channels, input, kernel, stride) in DEPTHWISE {
        let window = [axis(input, kernel, stride); 2];
        let filter = Filter {
            in_channels: channels,
            out_channels: channels,
            group: channels,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
        };
        let (shape, result) = (square(channels, input), square(channels, window[0].output));
        let name = format!("{kernel}x{kernel} s{stride} {channels} {input}");
        group.throughput(Throughput::Elements((2 * channels * kernel * kernel * result.positions()) as u64));
        let weight = reals(channels * kernel * kernel);
        let packed = PackedDepthwise::new(isa, &filter, &weight, None).expect("a depthwise filter");
        let (x, mut y) = (reals(shape.len()), Buffer::new(result.len()));
        let relu6 = Activation::Clamp { lo: 0.0, hi: 6.0 };
        group.bench_function(format!("reals {name}"), |b| {
            b.iter(|| packed.run(Blocked { shape, data: &x }, window, None, relu6, &mut y));
        });
        let weight: Vec<i8> = bytes(channels * kernel * kernel).iter().map(|w| *w as i8).collect();
        let packed = PackedCodesDepthwise::new(isa, &filter, &weight).expect("a depthwise filter");
        let requantize =
            Requantize::new(&vec![0; channels], &vec![1e-3; channels], CodeRange::full(128), Rounding::FloatHalfEven)
                .expect("multipliers are positive");
        let (x, mut y, mut scratch) = (bytes(shape.len()), Buffer::new(result.len()), Buffer::default());
        group.bench_function(format!("codes {name}"), |b| {
            b.iter(|| {
                let output = Output::Codes { requantize: &requantize, residual: None, y: &mut y };
                packed.run(Blocked { shape, data: &x }, 128, window, output, &mut scratch)
            });
        });
    }
    group.finish();
}

fn pooling(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = group(c, "pooling");
    let mean = Mean { x: Grid { scale: 0.1, zero_point: 128 }, y_scale: 0.1, range: CodeRange::full(128) };
    for (channels, input, stride) in POOLS {
        let window = [axis(input, 3, stride); 2];
        let (shape, result) = (square(channels, input), square(channels, window[0].output));
        let name = format!("3x3 s{stride} {channels} {input}");
        let (x, q) = (reals(shape.len()), bytes(shape.len()));
        let (x, q) = (Blocked { shape, data: &x[..] }, Blocked { shape, data: &q[..] });
        let (mut y, mut codes) = (Buffer::new(result.len()), Buffer::new(result.len()));
        group.throughput(Throughput::Elements(result.len() as u64));
        group.bench_function(format!("maxima of reals {name}"), |b| {
            b.iter(|| blocked::max_pool(isa, x, window, &mut y));
        });
        group.bench_function(format!("maxima of codes {name}"), |b| {
            b.iter(|| codes::max_pool(isa, q, window, &mut codes));
        });
        group.bench_function(format!("means of reals {name}"), |b| {
            b.iter(|| blocked::average_pool(isa, x, window, false, &mut y));
        });
        group.bench_function(format!("means of codes {name}"), |b| {
            b.iter(|| codes::average_pool(isa, q, window, false, &mean, &mut codes));
        });
    }
    let shape = square(2048, 7);
    let (x, q) = (reals(shape.len()), bytes(shape.len()));
    let (mut y, mut codes) = (Buffer::new(2048), Buffer::new(2048));
    group.throughput(Throughput::Elements(shape.len() as u64));
    group.bench_function("mean of whole planes of reals, elements read", |b| {
        b.iter(|| blocked::global_average_pool(isa, Blocked { shape, data: &x }, &mut y));
    });
    group.bench_function("mean of whole planes of codes, elements read", |b| {
        b.iter(|| codes::global_average_pool(isa, Blocked { shape, data: &q }, &mean, &mut codes));
    });
    group.finish();
}

fn elementwise(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = group(c, "elementwise");
    let len = square(RESIDUAL.0, RESIDUAL.1).len();
    let (a, b, mut y) = (reals(len), reals(len), Buffer::new(len));
    group.throughput(Throughput::Elements(len as u64));
    group.bench_function("residual addition of reals", |bench| {
        bench.iter(|| blocked::combine(isa, Arithmetic::Add, &a, &b, RELU, &mut y));
    });
    for activation in [Activation::Sigmoid, Activation::Silu, Activation::HardSwish, Activation::Tanh] {
        group.bench_function(format!("{activation:?}"), |bench| {
            bench.iter(|| {
                y.copy_from_slice(&a);
                blocked::activate(isa, activation, &mut y);
            });
        });
    }
    let grid = |scale| Grid { scale, zero_point: 128 };
    let (p, q, mut codes) = (bytes(len), bytes(len), Buffer::new(len));
    let addition =
        Addition::new(Sign::Unsigned, grid(0.1), grid(0.2), 0.25, CodeRange::full(128)).expect("scales are positive");
    group.bench_function("residual addition of codes", |bench| {
        bench.iter(|| codes::add(isa, &addition, &p, &q, &mut codes));
    });
    group.bench_function("quantize", |bench| {
        bench.iter(|| codes::quantize(isa, &a, 0.1, CodeRange::full(128), &mut codes));
    });
    group.bench_function("dequantize", |bench| bench.iter(|| codes::dequantize(isa, &p, grid(0.1), &mut y)));
    group.finish();
}

fn layout(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = group(c, "layout");
    for (channels, size) in [(3, 224), (64, 56), (256, 14)] {
        let lanes = if channels <= 4 { 4 } else { isa.lanes() };
        let shape = Shape { lanes, ..square(channels, size) };
        let name = format!("{channels} {size}");
        let (x, mut blocks) = (reals(channels * shape.positions()), reals(shape.len()));
        let mut y = x.clone();
        group.throughput(Throughput::Elements(x.len() as u64));
        group.bench_function(format!("from planes {name}"), |b| {
            b.iter(|| blocked::to_blocked(isa, shape, &x, &mut blocks));
        });
        group.bench_function(format!("to planes {name}"), |b| {
            b.iter(|| blocked::to_planes(isa, Blocked { shape, data: &blocks }, &mut y));
        });
        group.bench_function(format!("from channels last {name}"), |b| {
            b.iter(|| blocked::from_channels_last(isa, shape, &x, &mut blocks));
        });
        group.bench_function(format!("to channels last {name}"), |b| {
            b.iter(|| blocked::to_channels_last(isa, Blocked { shape, data: &blocks }, &mut y));
        });
    }
    group.finish();
}

criterion_group!(benches, depthwise, pooling, elementwise, layout);
criterion_main!(benches);
