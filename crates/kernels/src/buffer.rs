//! Memory that starts at a cache line, so that no vector in it straddles two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Numbers of which every pattern of bits is one.
pub trait Number: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($number:ty),*) => { $(impl sealed::Sealed for $number {} impl Number for $number {})* };
}

numbers!(u8, i8, i16, i32, f32);

/// A vector whose first element is at the start of a cache line.
#[derive(Debug, Default)]
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let mut buffer = Self { lines: Vec::new(), len: 0, element: std::marker::PhantomData };
        buffer.resize(len);
        buffer
    }

    /// Changes the length; elements beyond what the buffer has ever held are zero, others unspecified.
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE]));
        }
        self.len = len;
    }

    /// Elements it can hold without new memory.
    pub fn capacity(&self) -> usize {
        self.lines.capacity() * LINE / size_of::<T>()
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` elements of a type no larger than a line, initialized; every pattern of
        // bits is one of them, and a line is aligned for all of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; the lines are borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Number> From<&[T]> for Buffer<T> {
    fn from(elements: &[T]) -> Self {
        let mut buffer = Self::new(elements.len());
        buffer.copy_from_slice(elements);
        buffer
    }
}

impl<T: Number> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_a_line_and_keeps_what_it_held() {
        let mut buffer = Buffer::<f32>::from(&[1.0, 2.0, 3.0][..]);
        assert_eq!(buffer.as_ptr().align_offset(LINE), 0);
        buffer.resize(40);
        assert_eq!((buffer[..3].to_vec(), buffer[3..].to_vec()), (vec![1.0, 2.0, 3.0], vec![0.0; 37]));
        buffer[39] = 5.0;
        assert_eq!(buffer.clone()[39], 5.0);
        assert!(Buffer::<u8>::new(0).is_empty() && buffer.capacity() >= 40);
    }
}
