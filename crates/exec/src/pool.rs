//! Reuse of activation buffers: a network asks for the same sizes again for every image.

use crate::error::OpError;
use crate::ops::alloc;
use quantize_ir::{Tensor, TensorData};
use quantize_kernels::blocked::Shape;
use quantize_kernels::{Buffer, Number};

/// Free buffers of a kind kept at most; beyond it the ones unused for longest are dropped, so that buffers nobody asks
/// for again do not pile up.
const MAX_FREE: usize = 32;

/// Buffers that are free to be written again. One pool belongs to one thread.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    planes: Shelf<Vec<f32>>,
    blocks: Shelf<Buffer<f32>>,
    codes: Shelf<Buffer<u8>>,
    scratch: Vec<f32>,
    block_scratch: Buffer<f32>,
    code_scratch: Buffer<u8>,
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

    /// Memory of `len` elements for a plain tensor, with unspecified contents.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        self.planes.take(len)
    }

    /// Hands a tensor's buffer back.
    pub(crate) fn give(&mut self, tensor: Tensor) {
        if let TensorData::F32(buffer) = tensor.into_data() {
            self.planes.give(buffer);
        }
    }

    /// Memory for reals in blocks, with unspecified contents.
    ///
    /// # Errors
    /// If there are more of them than the executor is willing to allocate.
    pub(crate) fn take_blocks(&mut self, shape: &Shape) -> Result<Buffer<f32>, OpError> {
        alloc::admit_blocks(shape, self)?;
        Ok(self.blocks.take(shape.len()))
    }

    /// Hands back what held reals in blocks.
    pub(crate) fn give_blocks(&mut self, buffer: Buffer<f32>) {
        self.blocks.give(buffer);
    }

    /// Memory for codes in blocks, with unspecified contents.
    ///
    /// # Errors
    /// If there are more of them than the executor is willing to allocate.
    pub(crate) fn take_codes(&mut self, shape: &Shape) -> Result<Buffer<u8>, OpError> {
        alloc::admit_blocks(shape, self)?;
        Ok(self.codes.take(shape.len()))
    }

    /// Hands back what held codes in blocks.
    pub(crate) fn give_codes(&mut self, buffer: Buffer<u8>) {
        self.codes.give(buffer);
    }

    /// Working memory of kernels on planes, with unspecified contents; kept from call to call.
    pub(crate) fn scratch(&mut self) -> &mut Vec<f32> {
        &mut self.scratch
    }

    /// Working memory of kernels on reals in blocks.
    pub(crate) fn block_scratch(&mut self) -> &mut Buffer<f32> {
        &mut self.block_scratch
    }

    /// Working memory of kernels on codes in blocks.
    pub(crate) fn code_scratch(&mut self) -> &mut Buffer<u8> {
        &mut self.code_scratch
    }
}

/// Memory that can be put away and taken for another size.
trait Room: Default {
    fn capacity(&self) -> usize;
    fn resize(&mut self, len: usize);
}

impl Room for Vec<f32> {
    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn resize(&mut self, len: usize) {
        self.resize(len, 0.0);
    }
}

impl<T: Number> Room for Buffer<T> {
    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn resize(&mut self, len: usize) {
        self.resize(len);
    }
}

/// Free memory of one kind, longest unused first.
#[derive(Debug, Default)]
struct Shelf<R>(Vec<R>);

impl<R: Room> Shelf<R> {
    /// The smallest piece that holds `len` and is not twice as large, of equals the one used last; else a new one.
    fn take(&mut self, len: usize) -> R {
        let fits = |room: &R| room.capacity() >= len && room.capacity() / 2 <= len;
        let found = (0..self.0.len()).rev().filter(|i| fits(&self.0[*i])).min_by_key(|i| self.0[*i].capacity());
        let mut room = found.map_or_else(R::default, |i| self.0.remove(i));
        room.resize(len);
        room
    }

    fn give(&mut self, room: R) {
        if room.capacity() == 0 {
            return;
        }
        if self.0.len() == MAX_FREE {
            self.0.remove(0);
        }
        self.0.push(room);
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
            pool.give_codes(Buffer::new(64 * len));
        }
        assert_eq!(pool.codes.0.len(), MAX_FREE);
        assert_eq!(pool.codes.0.last().map(Buffer::capacity), Some(64 * (2 * MAX_FREE - 1)));
    }
}
