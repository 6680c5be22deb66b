//! Which instruction sets there are, which of them this processor has, and which one runs.

use super::{Kernel, portable};
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// An instruction set that this processor has.
///
/// The variable `QUANTIZE_ISA` of the environment chooses one by name (`scalar`, `neon`, `avx2`, `avx512`, `vnni`); if
/// the processor lacks it, the best one below it runs. With another value, or none, the best one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

/// Name, instruction set, whether this processor has it.
type Row = (&'static str, Kind, fn() -> bool);

/// Best first; the last one is always available.
static KINDS: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    ("vnni", Kind::Vnni, || avx512::available() && is_x86_feature_detected!("avx512vnni")),
    #[cfg(target_arch = "x86_64")]
    ("avx512", Kind::Avx512, avx512::available),
    #[cfg(target_arch = "x86_64")]
    ("avx2", Kind::Avx2, avx2::available),
    #[cfg(target_arch = "aarch64")]
    ("neon", Kind::Neon, || std::arch::is_aarch64_feature_detected!("neon")),
    ("scalar", Kind::Scalar, || true),
];

impl Isa {
    /// The one `QUANTIZE_ISA` chooses, read once.
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| Self::best_from(std::env::var("QUANTIZE_ISA").as_deref().unwrap_or_default()))
    }

    /// All this processor has, best first.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().filter(|(_, _, available)| available()).map(|(_, kind, _)| Self(*kind))
    }

    /// The best one that is not above the one named; the best of all if there is none of that name.
    pub fn best_from(name: &str) -> Self {
        let first = KINDS.iter().position(|(known, ..)| *known == name).unwrap_or(0);
        let found = KINDS[first..].iter().find(|(_, _, available)| available());
        Self(found.map_or(Kind::Scalar, |(_, kind, _)| *kind))
    }

    /// Its name, as `QUANTIZE_ISA` gives it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self.0).map_or("scalar", |(name, ..)| name)
    }

    /// Numbers of 32 bits in a vector: the channels in a block of activations, 16 or 8.
    pub fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Output = usize;
            fn run<S: super::Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run_float(Lanes)
    }

    /// One with vectors of half the lanes, if the processor computes two of them in the time of one of this one's.
    pub(crate) fn half(self) -> Option<Self> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni | Kind::Avx512 => avx2::available().then_some(Self(Kind::Avx2)),
            _ => None,
        }
    }

    /// Runs the version of `kernel` compiled for this instruction set.
    #[allow(unsafe_code)]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY (this and below): an `Isa` is only made after the processor was asked.
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni => unsafe { avx512::run_vnni(kernel) },
            _ => self.run_float(kernel),
        }
    }

    /// Like [`Isa::run`], for kernels that multiply no bytes: what differs only in that shares one version.
    #[allow(unsafe_code)]
    pub(crate) fn run_float<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY (this and below): an `Isa` is only made after the processor was asked.
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni | Kind::Avx512 => unsafe { avx512::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::run(kernel) },
            Kind::Scalar => portable::run(kernel),
        }
    }
}
