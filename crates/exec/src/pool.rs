//! Reuse of activation buffers: a network asks for the same sizes again for every image.

use quantize_ir::{Tensor, TensorData};

/// Free buffers kept at most; beyond it the ones unused for longest are dropped, so that buffers nobody asks for again
/// do not pile up.
const MAX_FREE: usize = 32;

/// Buffers that are free to be written again. One pool belongs to one thread.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Longest unused first.
    free: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    limit: Option<usize>,
}

impl Pool {
    /// A pool that [admits](Pool::admits) results of at most `max_elements`.
    pub(crate) fn limited(max_elements: usize) -> Self {
        Self { limit: Some(max_elements), ..Self::default() }
    }

    /// Whether a result of `len` elements may be allocated.
    pub(crate) fn admits(&self, len: usize) -> bool {
        self.limit.is_none_or(|limit| len <= limit)
    }

    /// A buffer of `len` elements with unspecified contents: the smallest free one that holds them, else a new one.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |b: &Vec<f32>| b.capacity() >= len && b.capacity() / 2 <= len;
        let best = (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].capacity());
        let Some(best) = best else { return vec![0.0; len] };
        let mut buffer = self.free.remove(best);
        buffer.resize(len, 0.0);
        buffer
    }

    /// Hands a tensor's buffer back.
    pub(crate) fn give(&mut self, tensor: Tensor) {
        let TensorData::F32(buffer) = tensor.into_data() else { return };
        if buffer.capacity() == 0 {
            return;
        }
        if self.free.len() == MAX_FREE {
            self.free.remove(0);
        }
        self.free.push(buffer);
    }

    /// Working memory of kernels, with unspecified contents; kept from call to call.
    pub(crate) fn scratch(&mut self) -> &mut Vec<f32> {
        &mut self.scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_for_the_same_size() {
        let mut pool = Pool::default();
        let first = pool.take(100);
        let address = first.as_ptr();
        pool.give(Tensor::vector(first));
        let (again, other) = (pool.take(90), pool.take(90));
        assert_eq!(again.as_ptr(), address);
        assert_ne!(other.as_ptr(), address);
    }

    #[test]
    fn buffers_nobody_takes_do_not_pile_up() {
        let mut pool = Pool::default();
        for len in 1..2 * MAX_FREE {
            pool.give(Tensor::vector(vec![0f32; len]));
        }
        assert_eq!(pool.free.len(), MAX_FREE);
        assert_eq!(pool.free.last().map(Vec::len), Some(2 * MAX_FREE - 1));
    }
}
