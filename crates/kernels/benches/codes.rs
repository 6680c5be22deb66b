//! Speed of the convolution of codes for the layers of ResNet-50, in operations: a multiplication and an addition are
//! two. `peak` is what a processor with instructions for sums of byte products does at most; `QUANTIZE_ISA` chooses the
//! instruction set.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quantize_kernels::blocked::{Blocked, Filter, Shape};
use quantize_kernels::codes::{
    Addition, CodeRange, Grid, Output, PackedCodesConv, Requantize, Residual, Rounding, Sign,
};
use quantize_kernels::{Axis, Buffer, Isa, Peak, peak};
use std::time::Duration;

/// Input and output channels, input size, kernel size, stride, whether codes are added to the result.
const LAYERS: [([usize; 2], usize, usize, usize, bool); 23] = [
    ([3, 64], 224, 7, 2, false),
    ([64, 64], 56, 1, 1, false),
    ([256, 64], 56, 1, 1, false),
    ([64, 64], 56, 3, 1, false),
    ([64, 256], 56, 1, 1, false),
    ([64, 256], 56, 1, 1, true),
    ([256, 128], 56, 1, 1, false),
    ([128, 128], 56, 3, 2, false),
    ([256, 512], 56, 1, 2, false),
    ([128, 512], 28, 1, 1, true),
    ([512, 128], 28, 1, 1, false),
    ([128, 128], 28, 3, 1, false),
    ([256, 256], 28, 3, 2, false),
    ([512, 1024], 28, 1, 2, false),
    ([256, 1024], 14, 1, 1, true),
    ([1024, 256], 14, 1, 1, false),
    ([256, 256], 14, 3, 1, false),
    ([512, 512], 14, 3, 2, false),
    ([1024, 2048], 14, 1, 2, false),
    ([512, 2048], 7, 1, 1, true),
    ([2048, 512], 7, 1, 1, false),
    ([512, 512], 7, 3, 1, false),
    ([2048, 1000], 1, 1, 1, false),
];

/// Bytes without a pattern that hardware could profit from.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}

fn bench(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = c.benchmark_group(format!("convolution of codes, {}", isa.name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    if isa.name() == "vnni" {
        group.throughput(Throughput::Elements(peak(isa, Peak::ByteDot, 100_000)));
        group.bench_function("peak", |b| b.iter(|| peak(isa, Peak::ByteDot, 100_000)));
    }
    for ([inputs, outputs], input, kernel, stride, added) in LAYERS {
        let (pad, depth) = (kernel / 2, inputs * kernel * kernel);
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
        let weight: Vec<i8> = bytes(outputs * depth).into_iter().map(|w| w as i8).collect();
        let packed = PackedCodesConv::new(isa, &filter, &weight).unwrap_or_default().expect("one group");
        let multipliers = vec![1e-2 / depth as f64; outputs];
        let requantize =
            Requantize::new(&vec![0; outputs], &multipliers, CodeRange::full(128), Rounding::FloatHalfEven)
                .expect("multipliers are positive");
        let grid = |scale| Grid { scale, zero_point: 128 };
        let addition = Addition::new(Sign::Unsigned, grid(0.1), grid(0.2), 0.25, CodeRange::full(128))
            .expect("scales are positive");
        let lanes = if inputs <= 4 { 4 } else { isa.lanes() };
        let shape = Shape { batch: 1, channels: inputs, height: input, width: input, lanes };
        let x = Buffer::from(&bytes(shape.len())[..]);
        let mut y = Buffer::new(outputs.next_multiple_of(isa.lanes()) * output * output);
        let (codes, mut scratch) = (y.clone(), Buffer::default());
        group.throughput(Throughput::Elements(2 * (outputs * depth * output * output) as u64));
        let name = format!("{kernel}x{kernel} s{stride} {inputs}-{outputs} {input}");
        group.bench_function(BenchmarkId::new(if added { "with addition" } else { "alone" }, name), |b| {
            b.iter(|| {
                let residual = added.then_some(Residual { addition: &addition, codes: &codes });
                let output = Output::Codes { requantize: &requantize, residual, y: &mut y };
                packed.run(Blocked { shape, data: &x }, 128, [axis; 2], output, &mut scratch)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
