//! Convolution: the choice between the direct product, the depthwise kernel and unfolding into columns.

use crate::depthwise;
use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;
use crate::im2col;
use crate::matrix::{Matrix, MatrixMut, gemm};

/// Convolution with an optional bias for each output channel: the start value of each sum.
///
/// `x` is `[batch, in_channels, input…]`, `weight` is `[out_channels, in_channels / group, kernel…]`, `y` is
/// `[batch, out_channels, output…]`. `scratch` grows as needed, to a few MiB or one column of the unfolded input,
/// whichever is more; what it held is lost.
///
/// # Errors
/// If a slice has another length than `geometry` says.
pub fn conv(
    geometry: &ConvGeometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    check_len("input", geometry.input_len(), x.len())?;
    check_len("weight", geometry.weight_len(), weight.len())?;
    check_len("output", geometry.output_len(), y.len())?;
    check_len("bias", geometry.out_channels(), bias.map_or(geometry.out_channels(), <[f32]>::len))?;
    if y.is_empty() {
        return Ok(());
    }
    if let Some(plan) = depthwise::Plan::new(geometry) {
        plan.run(geometry, x, weight, bias, y, scratch);
        return Ok(());
    }
    start_with(bias, geometry.space.output, y);
    let in_len = geometry.group_in * geometry.space.input;
    let out_len = geometry.group_out * geometry.space.output;
    let weight_len = geometry.group_out * geometry.group_weight();
    for (image_group, y) in y.chunks_exact_mut(out_len).enumerate() {
        let x = &x[image_group * in_len..][..in_len];
        let weight = &weight[image_group % geometry.group * weight_len..][..weight_len];
        let weight = Matrix::dense(weight, geometry.group_out, geometry.group_weight())?;
        conv_group(geometry, x, weight, bias.is_some(), y, scratch)?;
    }
    Ok(())
}

/// Writes the bias to every position of its channel; without bias `y` keeps what it holds.
pub(crate) fn start_with(bias: Option<&[f32]>, positions: usize, y: &mut [f32]) {
    let Some(bias) = bias else { return };
    for (plane, bias) in y.chunks_exact_mut(positions).zip(bias.iter().cycle()) {
        plane.fill(*bias);
    }
}

/// One group of one image.
fn conv_group(
    geometry: &ConvGeometry,
    x: &[f32],
    weight: Matrix<'_>,
    accumulate: bool,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let (rows, depth, positions) = (geometry.group_out, geometry.group_weight(), geometry.space.output);
    if geometry.is_pointwise() {
        let x = Matrix::dense(x, depth, positions)?;
        return gemm(1.0, weight, x, &mut MatrixMut::new(y, rows, positions, positions)?, accumulate);
    }
    let block = im2col::block_positions(depth, positions);
    scratch.resize(scratch.len().max(block * depth), 0.0);
    for start in (0..positions).step_by(block) {
        let end = positions.min(start + block);
        let columns = &mut scratch[..(end - start) * depth];
        im2col::unfold(geometry, x, start..end, columns);
        let columns = Matrix::dense(columns, depth, end - start)?;
        let mut y = MatrixMut::new(&mut y[start..], rows, end - start, positions)?;
        gemm(1.0, weight, columns, &mut y, accumulate)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Axis;
    use crate::testing::{any_axes, assert_close, noise, tap_input};
    use proptest::prelude::*;

    /// The definition: loops over image, output channel, output position, input channel and tap.
    fn reference(g: &ConvGeometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = Vec::new();
        for (n, oc) in (0..g.batch).flat_map(|n| (0..g.out_channels()).map(move |oc| (n, oc))) {
            for position in 0..g.space.output {
                let mut sum = f64::from(bias.map_or(0.0, |b| b[oc]));
                for (ic, t) in (0..g.group_in).flat_map(|ic| (0..g.space.taps).map(move |t| (ic, t))) {
                    let plane = n * g.in_channels() + oc / g.group_out * g.group_in + ic;
                    let w = weight[(oc * g.group_in + ic) * g.space.taps + t];
                    sum += tap_input(&g.space.axes, position, t)
                        .map_or(0.0, |i| f64::from(w) * f64::from(x[plane * g.space.input + i]));
                }
                y.push(sum as f32);
            }
        }
        y
    }

    fn check(g: &ConvGeometry, seed: u64, with_bias: bool) {
        let (x, weight) = (noise(seed, g.input_len()), noise(seed + 1, g.weight_len()));
        let bias = with_bias.then(|| noise(seed + 2, g.out_channels()));
        let mut y = vec![f32::NAN; g.output_len()];
        conv(g, &x, &weight, bias.as_deref(), &mut y, &mut vec![9.0; 5]).unwrap();
        assert_close(&y, &reference(g, &x, &weight, bias.as_deref()), g.group_weight() as f32);
    }

    fn same(input: usize, kernel: usize, stride: usize) -> Axis {
        let pad = kernel / 2;
        let output = (input + 2 * pad - kernel) / stride + 1;
        Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output }
    }

    #[test]
    fn typical_layers() {
        let cases = [
            ("pointwise", 2, 24, 40, 1, vec![same(14, 1, 1); 2]),
            ("pointwise with stride", 1, 8, 16, 1, vec![same(15, 1, 2); 2]),
            ("stem", 1, 3, 32, 1, vec![same(33, 3, 2); 2]),
            ("more columns than a block", 1, 40, 4, 1, vec![same(30, 3, 1), same(31, 3, 1)]),
            ("groups", 2, 12, 9, 3, vec![same(9, 3, 1); 2]),
            ("depthwise 3x3", 2, 7, 7, 7, vec![same(19, 3, 1); 2]),
            ("depthwise 5x5 with stride", 1, 5, 5, 5, vec![same(23, 5, 2); 2]),
            ("depthwise with multiplier", 1, 3, 6, 3, vec![same(9, 3, 1); 2]),
            ("one axis", 1, 4, 6, 2, vec![same(30, 5, 1)]),
            ("depthwise along one axis", 1, 4, 4, 4, vec![same(70, 5, 3)]),
            ("three axes", 1, 3, 4, 1, vec![same(6, 3, 2); 3]),
            ("no axes", 3, 4, 5, 1, vec![]),
        ];
        for (name, batch, ic, oc, group, axes) in cases {
            let g = ConvGeometry::new(batch, ic, oc, group, &axes).unwrap();
            let result = std::panic::catch_unwind(|| check(&g, 3, true));
            assert!(result.is_ok(), "{name}");
        }
    }

    #[test]
    fn no_input_channels_leave_the_bias() {
        let g = ConvGeometry::new(1, 0, 2, 1, &[same(3, 3, 1)]).unwrap();
        let mut y = vec![f32::NAN; 6];
        conv(&g, &[], &[], Some(&[1.0, 2.0]), &mut y, &mut Vec::new()).unwrap();
        assert_eq!(y, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        conv(&g, &[], &[], None, &mut y, &mut Vec::new()).unwrap();
        assert_eq!(y, [0.0; 6]);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let g = ConvGeometry::new(1, 1, 1, 1, &[same(3, 3, 1)]).unwrap();
        let mut y = [0.0; 3];
        let mut s = Vec::new();
        assert!(conv(&g, &[0.0; 2], &[0.0; 3], None, &mut y, &mut s).is_err());
        assert!(conv(&g, &[0.0; 3], &[0.0; 2], None, &mut y, &mut s).is_err());
        assert!(conv(&g, &[0.0; 3], &[0.0; 3], Some(&[]), &mut y, &mut s).is_err());
        assert!(conv(&g, &[0.0; 3], &[0.0; 3], None, &mut y[1..], &mut s).is_err());
    }

    proptest! {
        #[test]
        fn convolutions_match_the_definition(
            batch in 1usize..3, group in 1usize..4, group_in in 1usize..4, group_out in 1usize..4,
            axes in any_axes(), with_bias: bool, seed: u64,
        ) {
            let g = ConvGeometry::new(batch, group * group_in, group * group_out, group, &axes).unwrap();
            check(&g, seed, with_bias);
        }
    }
}
