//! Operators that compute each element on its own.

use crate::dtype::DType;

/// Function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`
    Relu,
    /// `x < 0 ? alpha * x : x`
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `clamp(alpha * x + beta, 0, 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * clamp(x / 6 + 1/2, 0, 1)`
    HardSwish,
    /// `x < 0 ? alpha * (exp(x) - 1) : x`
    Elu {
        /// Limit at minus infinity, negated.
        alpha: f32,
    },
    /// `gamma * (x < 0 ? alpha * (exp(x) - 1) : x)`
    Selu {
        /// Limit at minus infinity, negated and without `gamma`.
        alpha: f32,
        /// Factor of everything.
        gamma: f32,
    },
    /// `x < -lambda ? x + bias : x > lambda ? x - bias : 0`
    Shrink {
        /// Elements this far from zero or closer become zero.
        lambda: f32,
        /// How far the others move toward zero.
        bias: f32,
    },
    /// `ln(1 + exp(x))`
    Softplus,
    /// Gauss error function.
    Erf,
    /// `x * Phi(x)`, exactly or by the tanh approximation.
    Gelu {
        /// Whether the tanh approximation is used.
        tanh: bool,
    },
    /// `x * tanh(ln(1 + exp(x)))`
    Mish,
    /// Exponential.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// Absolute value.
    Abs,
    /// Negation.
    Neg,
    /// -1, 0 or 1.
    Sign,
    /// `1 / x`
    Reciprocal,
    /// Largest integer not above x.
    Floor,
    /// Smallest integer not below x.
    Ceil,
    /// Nearest integer, halves to even.
    Round,
    /// Logical negation.
    Not,
}

impl Unary {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Elu { .. } => "Elu",
            Self::Selu { .. } => "Selu",
            Self::Shrink { .. } => "Shrink",
            Self::Softplus => "Softplus",
            Self::Erf => "Erf",
            Self::Gelu { .. } => "Gelu",
            Self::Mish => "Mish",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Abs => "Abs",
            Self::Neg => "Neg",
            Self::Sign => "Sign",
            Self::Reciprocal => "Reciprocal",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Not => "Not",
        }
    }
}

/// Function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`; integers round toward zero.
    Div,
    /// `a` to the power of `b`; the result has the type of `a`.
    Pow,
    /// `a == b`, a truth value.
    Equal,
    /// `a < b`, a truth value.
    Less,
    /// `a <= b`, a truth value.
    LessOrEqual,
    /// `a > b`, a truth value.
    Greater,
    /// `a >= b`, a truth value.
    GreaterOrEqual,
    /// Logical conjunction.
    And,
    /// Logical disjunction.
    Or,
}

impl Binary {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Equal => "Equal",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::And => "And",
            Self::Or => "Or",
        }
    }

    /// Whether the result is a truth value.
    pub fn is_predicate(self) -> bool {
        !matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Pow)
    }
}

/// Fold over any number of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nary {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// Minimum.
    Min,
    /// Maximum.
    Max,
}

impl Nary {
    /// The operator's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Mean => "Mean",
            Self::Min => "Min",
            Self::Max => "Max",
        }
    }
}

/// Conversion of the element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Type of the result.
    pub to: DType,
}
