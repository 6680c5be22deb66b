//! Speed of the fp32 convolution on blocks, for layers of known networks, in operations: a multiplication and an
//! addition are two. `peak` is what the processor does at most.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quantize_kernels::blocked::{Activation, Blocked, Filter, PackedConv, Shape};
use quantize_kernels::{Axis, Buffer, Isa, Peak, peak};
use std::time::Duration;

/// Name, input and output channels, input size, kernel size, stride. From ResNet-50, VGG16 and EfficientNet-Lite0.
const LAYERS: [(&str, [usize; 2], usize, usize, usize); 24] = [
    ("1x1 64-64 56", [64, 64], 56, 1, 1),
    ("1x1 64-256 56", [64, 256], 56, 1, 1),
    ("1x1 256-64 56", [256, 64], 56, 1, 1),
    ("1x1 s2 256-512 56", [256, 512], 56, 1, 2),
    ("1x1 1024-256 14", [1024, 256], 14, 1, 1),
    ("1x1 512-2048 7", [512, 2048], 7, 1, 1),
    ("1x1 32-16 112", [32, 16], 112, 1, 1),
    ("1x1 96-24 56", [96, 24], 56, 1, 1),
    ("1x1 24-144 56", [24, 144], 56, 1, 1),
    ("1x1 240-40 28", [240, 40], 28, 1, 1),
    ("3x3 64-64 56", [64, 64], 56, 3, 1),
    ("3x3 128-128 28", [128, 128], 28, 3, 1),
    ("3x3 256-256 14", [256, 256], 14, 3, 1),
    ("3x3 512-512 7", [512, 512], 7, 3, 1),
    ("3x3 s2 128-128 56", [128, 128], 56, 3, 2),
    ("3x3 s2 512-512 14", [512, 512], 14, 3, 2),
    ("3x3 3-64 224", [3, 64], 224, 3, 1),
    ("3x3 64-64 224", [64, 64], 224, 3, 1),
    ("3x3 256-256 56", [256, 256], 56, 3, 1),
    ("3x3 512-512 28", [512, 512], 28, 3, 1),
    ("3x3 512-512 14", [512, 512], 14, 3, 1),
    ("7x7 s2 3-64 224", [3, 64], 224, 7, 2),
    ("3x3 s2 3-32 224", [3, 32], 224, 3, 2),
    ("fully connected 2048-1000", [2048, 1000], 1, 1, 1),
];

struct Layer {
    packed: PackedConv,
    window: [Axis; 2],
    shape: Shape,
    outputs: usize,
    operations: u64,
}

fn layer([inputs, outputs]: [usize; 2], input: usize, kernel: usize, stride: usize, winograd: bool) -> Layer {
    let pad = kernel / 2;
    let output = (input + 2 * pad - kernel) / stride + 1;
    let axis = Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output };
    let filter = Filter {
        in_channels: inputs,
        out_channels: outputs,
        group: 1,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
    };
    let isa = Isa::active();
    let depth = inputs * kernel * kernel;
    let weight: Vec<f32> = (0..outputs * depth).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
    let packed = PackedConv::new(isa, &filter, &weight, None).unwrap_or_default().expect("one group");
    let lanes = if inputs <= 4 { 4 } else { isa.lanes() };
    let shape = Shape { batch: 1, channels: inputs, height: input, width: input, lanes };
    let outputs_len = outputs.next_multiple_of(isa.lanes()) * output * output;
    let operations = 2 * (outputs * depth * output * output) as u64;
    let packed = if winograd { packed } else { packed.without_winograd() };
    Layer { packed, window: [axis; 2], shape, outputs: outputs_len, operations }
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("fp32 convolution, {}", Isa::active().name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(10);
    group.throughput(Throughput::Elements(peak(Isa::active(), Peak::MultiplyAdd, 100_000)));
    group.bench_function("peak", |b| b.iter(|| peak(Isa::active(), Peak::MultiplyAdd, 100_000)));
    for (name, channels, input, kernel, stride) in LAYERS {
        for winograd in [false, true] {
            let layer = layer(channels, input, kernel, stride, winograd);
            if winograd && !layer.packed.uses_winograd(&layer.window) {
                continue;
            }
            let x = Buffer::from(&vec![0.5; layer.shape.len()][..]);
            let (mut y, mut scratch) = (Buffer::new(layer.outputs), Buffer::default());
            group.throughput(Throughput::Elements(layer.operations));
            let id = BenchmarkId::new(if winograd { "Winograd" } else { "direct" }, name);
            group.bench_function(id, |b| {
                b.iter(|| {
                    let x = Blocked { shape: layer.shape, data: &x };
                    layer.packed.run(x, layer.window, None, Activation::Identity, &mut y, &mut scratch)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
