//! Reductions over axes.

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Arithmetic mean.
    Mean,
    /// Maximum.
    Max,
    /// Minimum.
    Min,
    /// Sum.
    Sum,
    /// Product.
    Prod,
    /// Sum of absolute values.
    L1,
    /// Square root of the sum of squares.
    L2,
    /// Sum of squares.
    SumSquare,
}

impl ReduceKind {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "ReduceMean",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
            Self::Sum => "ReduceSum",
            Self::Prod => "ReduceProd",
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::SumSquare => "ReduceSumSquare",
        }
    }
}

/// Reduction over the axes given as operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What it computes.
    pub kind: ReduceKind,
    /// Whether reduced axes stay as size 1.
    pub keep_dims: bool,
    /// Whether no axes means no reduction, rather than all axes.
    pub noop_with_empty_axes: bool,
}

/// Index of the largest element along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgMax {
    /// The axis; may be negative.
    pub axis: i64,
    /// Whether the axis stays as size 1.
    pub keep_dims: bool,
    /// Whether the last of equals wins rather than the first.
    pub select_last: bool,
}
