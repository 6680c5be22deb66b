//! Reading through one table of source indices for each axis: padding and nearest-neighbour resampling.

use super::alloc;
use super::strided::dense_strides;
use crate::error::OpError;
use crate::pool::Pool;
use quantize_ir::{Element, Tensor};

/// The tensor whose element at `(i, j, …)` is `x` at `(tables[0][i], tables[1][j], …)`, or `fill` where one of the
/// entries is `None`. Entries lie inside `shape`, the shape of `x`.
///
/// # Errors
/// If the result has too many elements.
pub(crate) fn gather_tables<T: Element + Default>(
    x: &[T],
    shape: &[usize],
    tables: &[Vec<Option<usize>>],
    fill: T,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let out_shape: Vec<usize> = tables.iter().map(Vec::len).collect();
    let mut out = alloc::buffer(&out_shape, pool)?;
    let strides = dense_strides(shape);
    match tables.split_last() {
        None => out.copy_from_slice(x),
        Some((columns, outer)) => {
            let rows = Rows::new(columns);
            let mut left = &mut out[..];
            fill_rows(x, outer, &strides, Some(0), &rows, fill, &mut left);
        }
    }
    Ok(Tensor::new(out_shape, out)?)
}

/// The innermost table: as pieces of consecutive elements if they are long enough to be worth it.
struct Rows<'a> {
    table: &'a [Option<usize>],
    pieces: Option<Vec<Piece>>,
}

struct Piece {
    to: usize,
    from: usize,
    len: usize,
}

impl<'a> Rows<'a> {
    const WORTHWHILE: usize = 4;

    fn new(table: &'a [Option<usize>]) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for (to, from) in table.iter().enumerate().filter_map(|(to, from)| from.map(|from| (to, from))) {
            match pieces.last_mut() {
                Some(p) if p.to + p.len == to && p.from + p.len == from => p.len += 1,
                _ => pieces.push(Piece { to, from, len: 1 }),
            }
        }
        let worthwhile = pieces.len() * Self::WORTHWHILE <= table.len();
        Self { table, pieces: worthwhile.then_some(pieces) }
    }

    fn copy<T: Copy>(&self, source: &[T], fill: T, row: &mut [T]) {
        match &self.pieces {
            Some(pieces) => {
                row.fill(fill);
                pieces.iter().for_each(|p| row[p.to..][..p.len].copy_from_slice(&source[p.from..][..p.len]));
            }
            None => row.iter_mut().zip(self.table).for_each(|(o, i)| *o = i.map_or(fill, |i| source[i])),
        }
    }
}

/// Fills all rows below the axes of `outer`, starting at `base` of `x`; `None` is outside of it.
fn fill_rows<T: Copy>(
    x: &[T],
    outer: &[Vec<Option<usize>>],
    strides: &[isize],
    base: Option<usize>,
    rows: &Rows<'_>,
    fill: T,
    out: &mut &mut [T],
) {
    if let Some((table, deeper)) = outer.split_first() {
        for entry in table {
            let base = base.zip(*entry).map(|(base, i)| base + i * strides[0] as usize);
            fill_rows(x, deeper, &strides[1..], base, rows, fill, out);
        }
        return;
    }
    let (row, rest) = std::mem::take(out).split_at_mut(rows.table.len());
    match base {
        Some(base) => rows.copy(&x[base.min(x.len())..], fill, row),
        None => row.fill(fill),
    }
    *out = rest;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::counting;

    #[test]
    fn tables_pick_and_fill() {
        let x = counting(&[2, 2]);
        let tables = [vec![Some(1), None, Some(0)], vec![Some(1), Some(0), Some(0), None]];
        let y = gather_tables(x.as_slice::<f32>().unwrap(), x.shape(), &tables, 9.0, &mut Pool::default()).unwrap();
        let expected = vec![4.0f32, 3.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 2.0, 1.0, 1.0, 9.0];
        assert_eq!(y, Tensor::new([3, 4], expected).unwrap());
    }

    #[test]
    fn long_pieces_are_the_same() {
        let x: Vec<u8> = (0..20).collect();
        let table: Vec<_> = (0..30).map(|i: usize| (5..25).contains(&i).then(|| i - 5)).collect();
        let y = gather_tables(&x, &[20], &[table], 99, &mut Pool::default()).unwrap();
        let expected: Vec<u8> = [vec![99; 5], x, vec![99; 5]].concat();
        assert_eq!(y, Tensor::vector(expected));
    }
}
