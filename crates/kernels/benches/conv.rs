//! Speed of the exact convolutions on planes beside the fp32 convolution, for layers of known networks, in
//! multiplications with an addition: codes of 8 bits with 32-bit sums, codes of 16 bits with 64-bit sums.
//! `QUANTIZE_ISA` chooses the instruction set.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quantize_kernels::integer::{Accumulator, PackedCodes, Scratch, conv_codes, conv_codes_wide};
use quantize_kernels::{Axis, ConvGeometry, Isa, KernelError, conv};
use std::time::Duration;

struct Layer {
    name: &'static str,
    in_channels: usize,
    out_channels: usize,
    group: usize,
    /// Input size, kernel size and stride of both axes; no axes if the kernel size is 0.
    window: (usize, usize, usize),
}

const LAYERS: [Layer; 9] = [
    Layer { name: "3x3 64-64, 56x56", in_channels: 64, out_channels: 64, group: 1, window: (56, 3, 1) },
    Layer { name: "1x1 256-64, 56x56", in_channels: 256, out_channels: 64, group: 1, window: (56, 1, 1) },
    Layer { name: "7x7 s2 3-64, 224x224", in_channels: 3, out_channels: 64, group: 1, window: (224, 7, 2) },
    Layer { name: "fully connected 1024-1000", in_channels: 1024, out_channels: 1000, group: 1, window: (1, 0, 1) },
    Layer { name: "depthwise 3x3 128, 56x56", in_channels: 128, out_channels: 128, group: 128, window: (56, 3, 1) },
    Layer { name: "depthwise 3x3 s2 128, 56x56", in_channels: 128, out_channels: 128, group: 128, window: (56, 3, 2) },
    Layer { name: "3x3 512-512, 7x7", in_channels: 512, out_channels: 512, group: 1, window: (7, 3, 1) },
    Layer { name: "1x1 512-2048, 7x7", in_channels: 512, out_channels: 2048, group: 1, window: (7, 1, 1) },
    Layer { name: "3x3 32 groups of 4, 56x56", in_channels: 128, out_channels: 128, group: 32, window: (56, 3, 1) },
];

impl Layer {
    fn geometry(&self) -> Result<ConvGeometry, KernelError> {
        let (input, kernel, stride) = self.window;
        let pad = kernel / 2;
        let output = (input + 2 * pad).saturating_sub(kernel) / stride + 1;
        let axis = Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output };
        let axes: &[Axis] = if kernel == 0 { &[] } else { &[axis, axis] };
        ConvGeometry::new(1, self.in_channels, self.out_channels, self.group, axes)
    }
}

/// Codes below `range` in magnitude, without a pattern that hardware could profit from.
fn codes(len: usize, range: i32) -> Vec<i16> {
    (0..len).map(|i| ((i.wrapping_mul(0x9e37_79b9) >> 8) as i32 % range) as i16).collect()
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("convolution on planes, {}", Isa::active().name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    for layer in &LAYERS {
        let geometry = layer.geometry().expect("sizes fit the machine");
        let pack = |range: u16| {
            let weight = codes(geometry.weight_len(), range.into());
            PackedCodes::new(&geometry, &weight, range).expect("weights are as long as the sizes say")
        };
        let (packed8, packed16) = (pack(1 << 7), pack(1 << 15));
        assert_eq!((packed8.accumulator(), packed16.accumulator()), (Accumulator::I32, Accumulator::I64));
        let (x8, x16) = (codes(geometry.input_len(), 1 << 7), codes(geometry.input_len(), 1 << 15));
        let float = |codes: &[i16]| codes.iter().map(|c| f32::from(*c)).collect::<Vec<_>>();
        let (x, weight) = (float(&x8), float(&codes(geometry.weight_len(), 1 << 7)));
        let outputs = geometry.output_len();
        group.throughput(Throughput::Elements((outputs * geometry.weight_len() / layer.out_channels) as u64));
        let (mut y, mut scratch) = (vec![0.0; outputs], Vec::new());
        group.bench_function(BenchmarkId::new("fp32", layer.name), |b| {
            b.iter(|| conv(&geometry, &x, &weight, None, &mut y, &mut scratch));
        });
        let (mut y, mut scratch) = (vec![0; outputs], Scratch::default());
        group.bench_function(BenchmarkId::new("8 bit", layer.name), |b| {
            b.iter(|| conv_codes(&geometry, &x8, &packed8, &mut y, &mut scratch));
        });
        let mut y = vec![0; outputs];
        group.bench_function(BenchmarkId::new("16 bit", layer.name), |b| {
            b.iter(|| conv_codes_wide(&geometry, &x16, &packed16, &mut y, &mut scratch));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
