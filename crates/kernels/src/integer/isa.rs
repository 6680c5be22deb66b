//! The table of instruction sets, and the choice among them.

use super::portable;
use crate::tap_sum::{Tap, check_reach};
use std::sync::OnceLock;

/// Rows of a tile: values that are multiplied by all lanes.
pub(crate) const ROWS: usize = 8;
/// Columns of a tile: values side by side in vector registers.
pub(crate) const LANES: usize = 32;

/// Values side by side, from the start of a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [i32; LANES]);

/// Sums of products of all rows with all lanes.
pub(super) type Tile = [Lanes; ROWS];

/// `tile[r][l] = Σ rows[k][r] · lanes[k][l]` over pairs of codes, for the first `used` rows at least.
pub(super) type Product = unsafe fn(rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile);

/// `out[i] = Σ over taps of weight * source[i + offset]`, for the whole blocks of `out`.
pub(super) type TapSum = unsafe fn(source: &[i32], taps: &[Tap<i32>], out: &mut [i32]);

/// One instruction set. Its functions may be called if it is available.
struct Row {
    name: &'static str,
    available: fn() -> bool,
    product: Product,
    tap_sum: TapSum,
}

/// Best first; the last one is always available. Operands of other types are further columns.
static TABLE: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    Row {
        name: "vnni",
        available: || is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw"),
        product: super::x86::vnni::product,
        tap_sum: super::x86::avx512::tap_sum,
    },
    #[cfg(target_arch = "x86_64")]
    Row {
        name: "avx512",
        available: || is_x86_feature_detected!("avx512bw"),
        product: super::x86::avx512::product,
        tap_sum: super::x86::avx512::tap_sum,
    },
    #[cfg(target_arch = "x86_64")]
    Row {
        name: "avx2",
        available: || is_x86_feature_detected!("avx2"),
        product: super::x86::avx2::product,
        tap_sum: super::x86::avx2::tap_sum,
    },
    Row { name: "scalar", available: || true, product: portable::product, tap_sum: portable::tap_sum },
];

/// An instruction set that this processor has.
#[derive(Clone, Copy)]
pub(super) struct Isa(&'static Row);

impl Isa {
    /// The one `QUANTIZE_ISA` chooses, read once.
    pub(super) fn active() -> Self {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| Self::best_from(std::env::var("QUANTIZE_ISA").as_deref().unwrap_or_default()))
    }

    /// All this processor has, best first.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().filter(|row| (row.available)()).map(Isa)
    }

    /// The best one that is not above the one named; the best of all if there is none of that name.
    pub(super) fn best_from(name: &str) -> Self {
        let first = TABLE.iter().position(|row| row.name == name).unwrap_or(0);
        let row = TABLE[first..].iter().find(|row| (row.available)());
        Self(row.unwrap_or(&TABLE[TABLE.len() - 1]))
    }

    pub(super) fn name(self) -> &'static str {
        self.0.name
    }

    /// See [`Product`]; of slices of different lengths the common part counts.
    #[allow(unsafe_code)]
    pub(super) fn product(self, rows: &[[i32; ROWS]], lanes: &[Lanes], used: usize, tile: &mut Tile) {
        // SAFETY: an `Isa` is only made of a row that is available.
        unsafe { (self.0.product)(rows, lanes, used, tile) }
    }

    /// See [`TapSum`].
    ///
    /// # Panics
    /// If a tap reads beyond `source`.
    #[allow(unsafe_code)]
    pub(super) fn tap_sum(self, source: &[i32], taps: &[Tap<i32>], out: &mut [i32]) {
        check_reach(source, taps, out);
        // SAFETY: an `Isa` is only made of a row that is available.
        unsafe { (self.0.tap_sum)(source, taps, out) }
    }
}
