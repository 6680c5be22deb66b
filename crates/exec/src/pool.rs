//! Reuse of activation buffers: a network asks for the same sizes again for every image.

use quantize_ir::{Tensor, TensorData};

/// Buffers that are free to be written again. One pool belongs to one thread.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Vec<Vec<f32>>,
}

impl Pool {
    /// A buffer of `len` elements with unspecified contents: the smallest free one that holds them, else a new one.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |b: &Vec<f32>| b.capacity() >= len && b.capacity() / 2 <= len;
        let best = (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].capacity());
        let mut buffer = best.map(|i| self.free.swap_remove(i)).unwrap_or_default();
        buffer.resize(len, 0.0);
        buffer
    }

    /// Hands a tensor's buffer back.
    pub(crate) fn give(&mut self, tensor: Tensor) {
        if let TensorData::F32(buffer) = tensor.into_data() {
            self.free.push(buffer);
        }
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
        assert_eq!(pool.take(90).as_ptr(), address);
        assert_ne!(pool.take(90).as_ptr(), address);
    }
}
