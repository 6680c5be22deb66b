//! Speed of the integer convolutions beside the fp32 convolution, for layers of known networks.
//!
//! Prints billions of multiplications and additions in a second (GMAC/s), on one thread, from the shortest of several
//! runs in turn, and the ratio to fp32: codes of 8 bits with 32-bit sums, codes of 16 bits with 64-bit sums.
//! `QUANTIZE_ISA` chooses the instruction set of the integer kernels.

#![allow(clippy::print_stdout)]

use quantize_kernels::integer::{Accumulator, PackedCodes, Scratch, conv_codes, conv_codes_wide, isa_name};
use quantize_kernels::{Axis, ConvGeometry, KernelError, conv};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Each kernel runs this often.
const RUNS: usize = 15;

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

fn time(f: impl FnOnce() -> Result<(), KernelError>) -> Result<Duration, KernelError> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed())
}

/// Shortest times of fp32, 8-bit codes with 32-bit sums, 16-bit codes with 64-bit sums.
fn measure(geometry: &ConvGeometry) -> Result<[Duration; 3], KernelError> {
    let operands = |range| (codes(geometry.input_len(), range), codes(geometry.weight_len(), range));
    let ((x8, weight8), (x16, weight16)) = (operands(1 << 7), operands(1 << 15));
    let float = |codes: &[i16]| codes.iter().map(|c| f32::from(*c)).collect::<Vec<_>>();
    let (x32, weight32) = (float(&x8), float(&weight8));
    let packed8 = PackedCodes::new(geometry, &weight8, 1 << 7)?;
    let packed16 = PackedCodes::new(geometry, &weight16, 1 << 15)?;
    assert_eq!((packed8.accumulator(), packed16.accumulator()), (Accumulator::I32, Accumulator::I64));
    let outputs = geometry.output_len();
    let (mut float, mut narrow, mut wide) = (vec![0.0; outputs], vec![0; outputs], vec![0; outputs]);
    let (mut float_scratch, mut scratch) = (Vec::new(), Scratch::default());
    let mut shortest = [Duration::MAX; 3];
    for _ in 0..RUNS {
        let times = [
            time(|| conv(geometry, &x32, &weight32, None, &mut float, &mut float_scratch))?,
            time(|| conv_codes(geometry, &x8, &packed8, &mut narrow, &mut scratch))?,
            time(|| conv_codes_wide(geometry, &x16, &packed16, &mut wide, &mut scratch))?,
        ];
        shortest.iter_mut().zip(times).for_each(|(shortest, time)| *shortest = time.min(*shortest));
        black_box((&float, &narrow, &wide));
    }
    Ok(shortest)
}

fn main() -> Result<(), KernelError> {
    println!("GMAC/s, integer kernels on {}", isa_name());
    println!("{:<28}{:>8}{:>16}{:>16}", "layer", "fp32", "8 bit", "16 bit");
    for layer in &LAYERS {
        let geometry = layer.geometry()?;
        let depth = geometry.weight_len() / layer.out_channels;
        let products = (geometry.output_len() * depth) as f64;
        let [fp32, narrow, wide] = measure(&geometry)?.map(|time| products / time.as_secs_f64() / 1e9);
        let ratio = |speed: f64| format!("{speed:.1} ({:.2}x)", speed / fp32);
        println!("{:<28}{fp32:>8.1}{:>16}{:>16}", layer.name, ratio(narrow), ratio(wide));
    }
    Ok(())
}
