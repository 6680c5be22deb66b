//! Copies of every n-th element: how strides thin out rows.

/// Copies every `stride`-th element, from the first on, until `from` or `to` ends.
pub(crate) fn copy_strided<T: Copy + Into<U>, U>(from: &[T], stride: usize, to: &mut [U]) {
    match stride {
        1 => from.iter().zip(to).for_each(|(from, to)| *to = (*from).into()),
        2 => copy_every_second(from, to),
        _ => from.iter().step_by(stride).zip(to).for_each(|(from, to)| *to = (*from).into()),
    }
}

/// In whole pairs, which the compiler vectorizes, and a last element without a neighbour.
fn copy_every_second<T: Copy + Into<U>, U>(from: &[T], to: &mut [U]) {
    let (pairs, last) = from.as_chunks::<2>();
    let whole = pairs.len().min(to.len());
    pairs.iter().zip(&mut to[..whole]).for_each(|([from, _], to)| *to = (*from).into());
    last.iter().zip(&mut to[whole..]).for_each(|(from, to)| *to = (*from).into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_end_with_the_shorter_slice(
            from in proptest::collection::vec(any::<i16>(), 0..40), stride in 1usize..5, len in 0usize..40,
        ) {
            let mut to = vec![i32::MAX; len];
            copy_strided(&from, stride, &mut to);
            for (i, to) in to.iter().enumerate() {
                prop_assert_eq!(*to, from.get(i * stride).map_or(i32::MAX, |from| i32::from(*from)));
            }
        }
    }
}
