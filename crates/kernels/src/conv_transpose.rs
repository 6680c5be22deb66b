//! Transposed convolution: the adjoint of convolution, as a product followed by adding the columns back.

use crate::conv::start_with;
use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;
use crate::im2col;
use crate::matrix::{Matrix, MatrixMut, gemm};

/// Transposed convolution with an optional bias for each channel of the result.
///
/// `adjoint` describes the convolution that would turn `y` into something of the size of `x`: `x` has its output size,
/// `y` its input size, and `weight` is `[channels of x, channels of y / group, kernel…]`. `scratch` grows as needed;
/// what it held is lost.
///
/// # Errors
/// If a slice has another length than `adjoint` says.
pub fn conv_transpose(
    adjoint: &ConvGeometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    check_len("input", adjoint.output_len(), x.len())?;
    check_len("weight", adjoint.weight_len(), weight.len())?;
    check_len("output", adjoint.input_len(), y.len())?;
    check_len("bias", adjoint.in_channels(), bias.map_or(adjoint.in_channels(), <[f32]>::len))?;
    y.fill(0.0);
    if y.is_empty() || x.is_empty() {
        start_with(bias, adjoint.space.input.max(1), y);
        return Ok(());
    }
    start_with(bias, adjoint.space.input, y);
    let x_len = adjoint.group_out * adjoint.space.output;
    let y_len = adjoint.group_in * adjoint.space.input;
    let weight_len = adjoint.group_out * adjoint.group_weight();
    for (image_group, y) in y.chunks_exact_mut(y_len).enumerate() {
        let x = Matrix::dense(&x[image_group * x_len..][..x_len], adjoint.group_out, adjoint.space.output)?;
        let weight = &weight[image_group % adjoint.group * weight_len..][..weight_len];
        let weight = Matrix::dense(weight, adjoint.group_out, adjoint.group_weight())?;
        transpose_group(adjoint, x, weight.transposed(), y, scratch)?;
    }
    Ok(())
}

/// One group of one image.
fn transpose_group(
    adjoint: &ConvGeometry,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), KernelError> {
    let (depth, positions) = (adjoint.group_weight(), adjoint.space.output);
    let block = im2col::block_positions(depth, positions);
    scratch.resize(scratch.len().max(block * depth), 0.0);
    for start in (0..positions).step_by(block) {
        let end = positions.min(start + block);
        let columns = &mut scratch[..(end - start) * depth];
        gemm(
            1.0,
            weight,
            x.columns(start..end),
            &mut MatrixMut::new(columns, depth, end - start, end - start)?,
            false,
        )?;
        im2col::fold(adjoint, columns, start..end, y);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Axis;
    use crate::testing::{any_axes, assert_close, noise};
    use proptest::prelude::*;

    /// The definition: each input element adds its multiple of the weight to the output.
    fn reference(g: &ConvGeometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let channels = g.in_channels();
        let mut y = vec![0f64; g.input_len()];
        for (i, y) in y.iter_mut().enumerate() {
            *y = f64::from(bias.map_or(0.0, |b| b[i / g.space.input % channels]));
        }
        for (i, x) in x.iter().enumerate() {
            let (plane, position) = (i / g.space.output, i % g.space.output);
            let (n, xc) = (plane / g.out_channels(), plane % g.out_channels());
            for (c, t) in (0..g.group_in).flat_map(|c| (0..g.space.taps).map(move |t| (c, t))) {
                let w = weight[(xc * g.group_in + c) * g.space.taps + t];
                let yc = n * channels + xc / g.group_out * g.group_in + c;
                if let Some(to) = target(&g.space.axes, position, t) {
                    y[yc * g.space.input + to] += f64::from(*x) * f64::from(w);
                }
            }
        }
        y.into_iter().map(|y| y as f32).collect()
    }

    fn target(axes: &[Axis], mut position: usize, mut tap: usize) -> Option<usize> {
        let (mut index, mut step) = (0, 1);
        for a in axes.iter().rev() {
            let at = (position % a.output * a.stride + tap % a.kernel * a.dilation) as i64 - a.pad_begin as i64;
            index += usize::try_from(at).ok().filter(|i| *i < a.input)? * step;
            (step, position, tap) = (step * a.input, position / a.output, tap / a.kernel);
        }
        Some(index)
    }

    #[test]
    fn an_empty_input_leaves_the_bias() {
        let axis = Axis { input: 2, kernel: 2, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0, output: 1 };
        let g = ConvGeometry::new(1, 1, 0, 1, &[axis]).unwrap();
        let mut y = [f32::NAN; 2];
        conv_transpose(&g, &[], &[], Some(&[3.0]), &mut y, &mut Vec::new()).unwrap();
        assert_eq!(y, [3.0, 3.0]);
    }

    proptest! {
        #[test]
        fn transposed_convolutions_match_the_definition(
            batch in 1usize..3, group in 1usize..4, group_in in 1usize..4, group_out in 1usize..4,
            axes in any_axes(), with_bias: bool, seed: u64,
        ) {
            let g = ConvGeometry::new(batch, group * group_in, group * group_out, group, &axes).unwrap();
            let (x, weight) = (noise(seed, g.output_len()), noise(seed + 1, g.weight_len()));
            let bias = with_bias.then(|| noise(seed + 2, g.in_channels()));
            let mut y = vec![f32::NAN; g.input_len()];
            conv_transpose(&g, &x, &weight, bias.as_deref(), &mut y, &mut vec![9.0; 5]).unwrap();
            let terms = (g.group_out * g.space.taps) as f32;
            assert_close(&y, &reference(&g, &x, &weight, bias.as_deref()), terms);
        }
    }
}
