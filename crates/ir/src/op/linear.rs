//! Matrix products with attributes.

/// `alpha * op(a) * op(b) + beta * c` of matrices, `c` broadcast to `[M, N]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the addend.
    pub beta: f32,
    /// Whether `a` is stored `[K, M]`.
    pub trans_a: bool,
    /// Whether `b` is stored `[N, K]`.
    pub trans_b: bool,
}
