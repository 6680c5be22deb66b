//! What a run shows to those who watch it.

use crate::error::OpError;
use crate::pool::Pool;
use crate::value::{Activations, Value};
use quantize_ir::{Tensor, ValueId};
use quantize_kernels::Isa;
use quantize_kernels::blocked::Blocked;
use std::borrow::Cow;

/// Is shown the values of a run that were asked for, each as soon as it is there: fed ones first, then computed ones;
/// constants never. What is computed on the way to them is not shown, and need not be in memory at any time.
pub trait Observer {
    /// Sees `value`, which holds `seen` in this run.
    fn observe(&mut self, value: ValueId, seen: &View<'_>);

    /// Whether it looks at `value`; where a value must be converted to be seen, those it does not look at are not.
    fn wants(&self, _value: ValueId) -> bool {
        true
    }

    /// Hears that a step is done.
    fn finished(&mut self, _step: &Finished<'_>) {}
}

/// A step that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished<'a> {
    /// The node whose operator ran first in it, as messages name it.
    pub node: &'a str,
    /// Its operator.
    pub op: &'a str,
    /// How it was computed.
    pub kernel: &'static str,
    /// Products that were added up.
    pub multiply_adds: u64,
}

/// Looks at nothing.
impl Observer for () {
    fn observe(&mut self, _: ValueId, _: &View<'_>) {}

    fn wants(&self, _: ValueId) -> bool {
        false
    }
}

impl<F: FnMut(ValueId, &View<'_>)> Observer for F {
    fn observe(&mut self, value: ValueId, seen: &View<'_>) {
        self(value, seen);
    }
}

/// A value as it is in memory, for as long as it is looked at.
#[derive(Debug)]
pub struct View<'a> {
    held: Held<'a>,
    isa: Isa,
}

#[derive(Debug)]
enum Held<'a> {
    Plain(&'a Tensor),
    Blocked(&'a Activations<f32>),
}

impl<'a> View<'a> {
    /// A tensor in memory order.
    pub fn of(tensor: &'a Tensor) -> Self {
        Self { held: Held::Plain(tensor), isa: Isa::active() }
    }

    pub(crate) fn new(value: &'a Value<'_>, isa: Isa) -> Self {
        let held = match value {
            Value::Shared(tensor) => Held::Plain(tensor),
            Value::Plain(tensor) => Held::Plain(tensor),
            Value::Blocked(blocks) => Held::Blocked(blocks),
        };
        Self { held, isa }
    }

    /// Dimensions of the tensor.
    pub fn dims(&self) -> Cow<'_, [usize]> {
        match self.held {
            Held::Plain(tensor) => Cow::Borrowed(tensor.shape()),
            Held::Blocked(blocks) => Cow::Owned(blocks.dims()),
        }
    }

    /// The tensor in memory order: itself, or a copy out of its blocks.
    ///
    /// # Errors
    /// If the copy cannot be made.
    pub fn tensor(&self) -> Result<Cow<'a, Tensor>, OpError> {
        match self.held {
            Held::Plain(tensor) => Ok(Cow::Borrowed(tensor)),
            Held::Blocked(blocks) => blocks.tensor(self.isa, &mut Pool::default()).map(Cow::Owned),
        }
    }

    /// The blocks of channels it is in, if it is.
    pub fn blocks(&self) -> Option<Blocked<'a, f32>> {
        match self.held {
            Held::Plain(_) => None,
            Held::Blocked(blocks) => Some(blocks.view()),
        }
    }
}
