//! Extension at the borders, by one table of source indices for each axis.

use super::resolve_axes;
use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::ops::dispatch::on_elements;
use crate::ops::tables::gather_tables;
use crate::pool::Pool;
use quantize_ir::op::{Pad, PadMode};
use quantize_ir::{Element, Tensor, TensorData};

/// Extends at the borders; negative pads cut, and modes that repeat elements repeat what is left after cutting.
///
/// # Errors
/// If pads are not two for each axis, cut more than there is, or repeat an empty axis.
pub(crate) fn pad(attrs: &Pad, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let (x, pads) = (operands.required(0)?, operands.required(1)?.to_i64_vec()?);
    let axes = operands.optional(3).map(Tensor::to_i64_vec).transpose()?;
    let axes = resolve_axes(&axes.unwrap_or_else(|| (0..x.rank() as i64).collect()), x.rank())?;
    if pads.len() != axes.len() * 2 {
        return Err(OpError::shape(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mut per_axis = vec![(0, 0); x.rank()];
    for (i, &axis) in axes.iter().enumerate() {
        per_axis[axis] = (pads[i], pads[i + axes.len()]);
    }
    let borders = x.shape().iter().zip(per_axis);
    let borders = borders.map(|(&dim, (b, e))| Border::new(dim, b, e)).collect::<Result<Vec<_>, _>>()?;
    alloc::result_len(&borders.iter().map(Border::output).collect::<Vec<_>>())?;
    // With an empty axis the product does not bound the others, but their tables are as long.
    borders.iter().try_for_each(|b| alloc::result_len(&[b.output()]).map(drop))?;
    let tables = borders.iter().map(|b| b.table(attrs.mode)).collect::<Result<Vec<_>, _>>()?;
    let y = on_elements!(x.data(), v => pad_elements(v, x.shape(), &tables, operands, pool))?;
    Ok(vec![y])
}

fn pad_elements<T: Element + Default>(
    x: &[T],
    shape: &[usize],
    tables: &[Vec<Option<usize>>],
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let value = match operands.optional(2).map(Tensor::as_slice::<T>).transpose()? {
        None | Some([]) => T::default(),
        Some([value]) => *value,
        Some(values) => return Err(OpError::shape(format!("a pad value of {} elements", values.len()))),
    };
    gather_tables(x, shape, tables, value, pool)
}

/// What remains of an axis, and what is put around it.
struct Border {
    first: usize,
    kept: usize,
    before: usize,
    after: usize,
}

impl Border {
    fn new(dim: usize, begin: i64, end: i64) -> Result<Self, OpError> {
        let invalid = || OpError::shape(format!("pads {begin} and {end} do not fit an axis of {dim}"));
        let amount = |v: i64| usize::try_from(v.unsigned_abs()).map_err(|_| invalid());
        let (b, e) = (amount(begin)?, amount(end)?);
        let (first, before) = if begin < 0 { (b, 0) } else { (0, b) };
        let (cut, after) = if end < 0 { (e, 0) } else { (0, e) };
        let kept = dim.checked_sub(first).and_then(|d| d.checked_sub(cut)).ok_or_else(invalid)?;
        before.checked_add(kept).and_then(|n| n.checked_add(after)).ok_or_else(invalid)?;
        Ok(Self { first, kept, before, after })
    }

    fn output(&self) -> usize {
        self.before + self.kept + self.after
    }

    /// Source index of each output index; `None` is the constant.
    fn table(&self, mode: PadMode) -> Result<Vec<Option<usize>>, OpError> {
        if self.kept == 0 && self.output() > 0 && mode != PadMode::Constant {
            return Err(OpError::shape("an empty axis has nothing to repeat at its border"));
        }
        Ok((0..self.output()).map(|i| self.source(i, mode)).collect())
    }

    fn source(&self, output: usize, mode: PadMode) -> Option<usize> {
        let kept = self.kept as i64;
        let i = output as i64 - self.before as i64;
        let inside = match mode {
            _ if (0..kept).contains(&i) => i,
            PadMode::Constant => return None,
            PadMode::Edge => i.clamp(0, kept - 1),
            PadMode::Wrap => i.rem_euclid(kept),
            PadMode::Reflect if kept == 1 => 0,
            PadMode::Reflect => {
                let period = 2 * (kept - 1);
                let phase = i.rem_euclid(period);
                phase.min(period - phase)
            }
        };
        Some(self.first + inside as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{counting, run};

    #[test]
    fn borders_of_a_vector() {
        let cases: [(&str, PadMode, [i64; 2], &[f32]); 8] = [
            ("constant", PadMode::Constant, [1, 2], &[9.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0]),
            ("reflect", PadMode::Reflect, [2, 1], &[3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0]),
            ("edge", PadMode::Edge, [2, 1], &[1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0]),
            ("wrap", PadMode::Wrap, [1, 5], &[4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0]),
            ("cut and constant", PadMode::Constant, [-2, 1], &[3.0, 4.0, 9.0]),
            ("cut and reflect", PadMode::Reflect, [-1, 2], &[2.0, 3.0, 4.0, 3.0, 2.0]),
            ("cut and wrap", PadMode::Wrap, [-2, 2], &[3.0, 4.0, 3.0, 4.0]),
            ("cut all", PadMode::Constant, [-4, 0], &[]),
        ];
        let (x, value) = (counting(&[4]), Tensor::scalar(9f32));
        for (name, mode, pads, expected) in cases {
            let pads = Tensor::vector(pads.to_vec());
            let y = run(&[&x, &pads, &value], |o, p| pad(&Pad { mode }, o, p));
            assert_eq!(y, Ok(Tensor::vector(expected.to_vec())), "{name}");
        }
    }

    #[test]
    fn chosen_axes_and_types() {
        let x = Tensor::new([2, 1], vec![5u8, 6]).unwrap();
        let (pads, axes) = (Tensor::vector(vec![1i64, 0]), Tensor::vector(vec![-1i64]));
        let slots = [Some(&x), Some(&pads), None, Some(&axes)];
        let y = pad(&Pad { mode: PadMode::Constant }, Operands(&slots), &mut Pool::default()).unwrap();
        assert_eq!(y[0], Tensor::new([2, 2], vec![0u8, 5, 0, 6]).unwrap());
    }

    #[test]
    fn misfits() {
        let x = counting(&[2]);
        for pads in [vec![-3, 0], vec![i64::MIN, 0], vec![i64::MAX, i64::MAX], vec![1 << 40, 0], vec![1]] {
            let y = run(&[&x, &Tensor::vector(pads.clone())], |o, p| pad(&Pad { mode: PadMode::Constant }, o, p));
            assert!(y.is_err(), "{pads:?}");
        }
        let pads = Tensor::vector(vec![1i64, 0]);
        assert!(run(&[&counting(&[0]), &pads], |o, p| pad(&Pad { mode: PadMode::Edge }, o, p)).is_err());
    }
}
