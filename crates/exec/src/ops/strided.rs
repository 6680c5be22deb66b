//! Loops over strided operands: the one way broadcasting, transposing and slicing walk through memory.

use super::alloc;
use crate::error::OpError;
use crate::pool::Pool;
use quantize_ir::{Element, Tensor};

/// Row-major strides of a dense tensor.
pub(crate) fn dense_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].wrapping_mul(shape[i] as isize);
    }
    strides
}

/// Strides that read a dense tensor of `shape` as if it were stretched to `target`, to which it broadcasts.
pub(crate) fn broadcast_strides(shape: &[usize], target: &[usize]) -> Vec<isize> {
    let missing = target.len().saturating_sub(shape.len());
    let stretched = shape.iter().zip(dense_strides(shape)).map(|(&d, s)| if d == 1 { 0 } else { s });
    std::iter::repeat_n(0, missing).chain(stretched).collect()
}

/// One loop: its length and the step of each operand.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis<const N: usize> {
    extent: usize,
    strides: [isize; N],
}

impl<const N: usize> Axis<N> {
    /// Whether walking `inner` to its end leads to the next step of this axis for all operands.
    fn continues(&self, inner: &Self) -> bool {
        (0..N).all(|k| self.strides[k] == inner.strides[k].wrapping_mul(inner.extent as isize))
    }
}

/// A nest of loops over `N` operands, written for a dense result: neighbouring loops are merged where all operands
/// allow it, and the innermost one is handed out as a run.
#[derive(Debug)]
pub(crate) struct Loops<const N: usize> {
    outer: Vec<Axis<N>>,
    inner: Axis<N>,
}

impl<const N: usize> Loops<N> {
    /// Loops over a result of `shape`, each operand with one stride for each axis.
    pub(crate) fn new(shape: &[usize], strides: [&[isize]; N]) -> Self {
        let mut axes: Vec<Axis<N>> = Vec::with_capacity(shape.len());
        for (i, &extent) in shape.iter().enumerate().filter(|(_, extent)| **extent != 1) {
            let axis = Axis { extent, strides: strides.map(|s| s[i]) };
            match axes.last_mut() {
                Some(last) if last.continues(&axis) => *last = Axis { extent: last.extent * extent, ..axis },
                _ => axes.push(axis),
            }
        }
        let inner = axes.pop().unwrap_or(Axis { extent: 1, strides: [0; N] });
        Self { outer: axes, inner }
    }

    /// Elements of a run.
    pub(crate) fn run(&self) -> usize {
        self.inner.extent
    }

    /// Step of each operand inside a run.
    pub(crate) fn run_strides(&self) -> [isize; N] {
        self.inner.strides
    }

    /// Calls `visit` for each run in the result's order, with the position of its first element in each operand.
    pub(crate) fn for_each_run(&self, start: [isize; N], mut visit: impl FnMut([isize; N])) {
        if self.inner.extent == 0 || self.outer.iter().any(|axis| axis.extent == 0) {
            return;
        }
        let mut index = vec![0; self.outer.len()];
        let mut offsets = start;
        loop {
            visit(offsets);
            if !self.advance(&mut index, &mut offsets) {
                return;
            }
        }
    }

    fn advance(&self, index: &mut [usize], offsets: &mut [isize; N]) -> bool {
        for (axis, i) in self.outer.iter().zip(index).rev() {
            *i += 1;
            let back = if *i < axis.extent { 0 } else { axis.extent as isize };
            for k in 0..N {
                offsets[k] += axis.strides[k] * (1 - back);
            }
            if back == 0 {
                return true;
            }
            *i = 0;
        }
        false
    }
}

/// Applies `f` to broadcast pairs of elements, in the order of the dense result `out`.
pub(crate) fn zip<A: Copy, B: Copy, O>(a: &[A], b: &[B], loops: &Loops<2>, out: &mut [O], f: impl Fn(A, B) -> O) {
    let mut runs = out.chunks_exact_mut(loops.run().max(1));
    let strides = loops.run_strides();
    loops.for_each_run([0, 0], |[i, j]| {
        let Some(run) = runs.next() else { return };
        let (a, b) = (&a[i as usize..], &b[j as usize..]);
        match strides {
            [1, 1] => run.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&x, &y))| *o = f(x, y)),
            [1, _] => zip_with_second(run, a, b[0], &f),
            [_, 1] => zip_with_first(run, a[0], b, &f),
            _ => run.iter_mut().for_each(|o| *o = f(a[0], b[0])),
        }
    });
}

fn zip_with_second<A: Copy, B: Copy, O>(run: &mut [O], a: &[A], y: B, f: impl Fn(A, B) -> O) {
    run.iter_mut().zip(a).for_each(|(o, &x)| *o = f(x, y));
}

fn zip_with_first<A: Copy, B: Copy, O>(run: &mut [O], x: A, b: &[B], f: impl Fn(A, B) -> O) {
    run.iter_mut().zip(b).for_each(|(o, &y)| *o = f(x, y));
}

/// A tensor read out of another one's memory: element `i` is at `offset + sum of i[k] * strides[k]`.
#[derive(Debug)]
pub(crate) struct View {
    /// Dimensions of the view.
    pub(crate) shape: Vec<usize>,
    /// Step of each axis in the source.
    pub(crate) strides: Vec<isize>,
    /// Position of the first element.
    pub(crate) offset: isize,
}

impl View {
    /// The elements of the view as a dense vector.
    ///
    /// # Errors
    /// If the view has too many elements.
    pub(crate) fn read<T: Element + Default>(&self, source: &[T], pool: &mut Pool) -> Result<Vec<T>, OpError> {
        let mut out = alloc::buffer(&self.shape, pool)?;
        let loops = Loops::new(&self.shape, [&self.strides]);
        let mut runs = out.chunks_exact_mut(loops.run().max(1));
        let [stride] = loops.run_strides();
        loops.for_each_run([self.offset], |[start]| {
            if let Some(run) = runs.next() {
                read_run(source, start, stride, run);
            }
        });
        Ok(out)
    }

    /// The view as a tensor of `shape`, which has as many elements.
    ///
    /// # Errors
    /// If the view has too many elements.
    pub(crate) fn materialize<T: Element + Default>(
        &self,
        source: &[T],
        shape: Vec<usize>,
        pool: &mut Pool,
    ) -> Result<Tensor, OpError> {
        Ok(Tensor::new(shape, self.read(source, pool)?)?)
    }
}

fn read_run<T: Copy>(source: &[T], start: isize, stride: isize, run: &mut [T]) {
    match stride {
        1 => run.copy_from_slice(&source[start as usize..][..run.len()]),
        0 => run.fill(source[start as usize]),
        _ => {
            let mut at = start;
            for o in run {
                *o = source[at as usize];
                at += stride;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops(a: &[usize], b: &[usize]) -> Loops<2> {
        let shape = quantize_ir::shape::broadcast(a, b).unwrap();
        Loops::new(&shape, [&broadcast_strides(a, &shape), &broadcast_strides(b, &shape)])
    }

    #[test]
    #[allow(clippy::type_complexity)]
    fn common_broadcasts_become_long_runs() {
        let cases: [(&str, &[usize], &[usize], usize, [isize; 2]); 5] = [
            ("same shape", &[2, 3, 4], &[2, 3, 4], 24, [1, 1]),
            ("scalar", &[2, 3, 4], &[], 24, [1, 0]),
            ("per channel", &[2, 3, 4, 5], &[3, 1, 1], 20, [1, 0]),
            ("per last axis", &[2, 3, 4], &[4], 4, [1, 1]),
            ("empty", &[2, 0], &[1], 0, [1, 0]),
        ];
        for (name, a, b, run, strides) in cases {
            let loops = loops(a, b);
            assert_eq!((loops.run(), loops.run_strides()), (run, strides), "{name}");
        }
    }

    #[test]
    fn both_operands_may_stretch() {
        let mut out = [0; 6];
        zip(&[10, 20], &[1, 2, 3], &loops(&[2, 1], &[1, 3]), &mut out, |a, b| a + b);
        assert_eq!(out, [11, 12, 13, 21, 22, 23]);
    }

    #[test]
    fn views_read_backwards_and_repeat() {
        let mut pool = Pool::default();
        let backwards = View { shape: vec![3], strides: vec![-2], offset: 4 };
        assert_eq!(backwards.read(&[0u8, 1, 2, 3, 4], &mut pool), Ok(vec![4, 2, 0]));
        let repeated = View { shape: vec![2, 2], strides: vec![0, 1], offset: 1 };
        assert_eq!(repeated.read(&[0f32, 1.0, 2.0], &mut pool), Ok(vec![1.0, 2.0, 1.0, 2.0]));
    }
}
