//! Which images of a data set take part: given positions, filled up by a seeded random choice.
//!
//! Only positions are chosen here; listing files and reading them is not this module's business.

use rand_mt::Mt;

/// Seed that is used when none is given: the same choice on every run.
pub const DEFAULT_SEED: u32 = 0;

/// Which positions of a sorted list of files are taken. The default takes all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sampling {
    /// How many; without it as many as there are indices, or all files if there are none of these either.
    pub size: Option<usize>,
    /// Seed of the random choice; [`DEFAULT_SEED`] if there is none. Must not be given together with indices.
    pub seed: Option<u32>,
    /// Positions from 0 that are taken in any case, in any order; the rest is chosen at random.
    pub indices: Vec<usize>,
}

impl Sampling {
    /// The positions of a list of `files` files that are taken, in ascending order, none of them twice.
    ///
    /// # Errors
    /// [`SamplingError::SeedWithIndices`], or what [`choose`] reports.
    pub fn positions(&self, files: usize) -> Result<Vec<usize>, SamplingError> {
        if self.seed.is_some() && !self.indices.is_empty() {
            return Err(SamplingError::SeedWithIndices);
        }
        let all = if self.indices.is_empty() { files } else { self.indices.len() };
        choose(files, self.size.unwrap_or(all), self.seed.unwrap_or(DEFAULT_SEED), &self.indices)
    }
}

/// Takes `indices` and fills up to `size` with a random choice among the other positions below `files`; ascending.
///
/// The same files as the xfDNN quantizer selects for a seed: the candidates in ascending order are permuted by a
/// Fisher-Yates shuffle from the end whose generator is MT19937, seeded by one integer, and the first ones are taken.
///
/// # Errors
/// [`SamplingError::Nothing`], [`SamplingError::TooFewFiles`], [`SamplingError::OutOfRange`],
/// [`SamplingError::Repeated`] or [`SamplingError::SizeBelowIndices`].
pub fn choose(files: usize, size: usize, seed: u32, indices: &[usize]) -> Result<Vec<usize>, SamplingError> {
    let mut chosen = checked(indices, files)?;
    if size == 0 {
        return Err(SamplingError::Nothing);
    }
    if size > files {
        return Err(SamplingError::TooFewFiles { size, files });
    }
    let Some(missing) = size.checked_sub(chosen.len()) else {
        return Err(SamplingError::SizeBelowIndices { size, indices: chosen.len() });
    };
    if missing > 0 {
        let mut candidates: Vec<usize> = (0..files).filter(|at| chosen.binary_search(at).is_err()).collect();
        shuffle(&mut candidates, seed);
        chosen.extend(candidates.iter().take(missing));
        chosen.sort_unstable();
    }
    Ok(chosen)
}

/// The indices in ascending order.
fn checked(indices: &[usize], files: usize) -> Result<Vec<usize>, SamplingError> {
    let outside: Vec<usize> = indices.iter().copied().filter(|index| *index >= files).collect();
    if !outside.is_empty() {
        return Err(SamplingError::OutOfRange { indices: outside, files });
    }
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    let mut repeated: Vec<usize> = sorted.array_windows().filter(|[a, b]| a == b).map(|[a, _]| *a).collect();
    repeated.dedup();
    if repeated.is_empty() { Ok(sorted) } else { Err(SamplingError::Repeated { indices: repeated }) }
}

fn shuffle(candidates: &mut [usize], seed: u32) {
    let mut generator = Mt::new(seed);
    for last in (1..candidates.len()).rev() {
        candidates.swap(last, up_to(&mut generator, last));
    }
}

/// A number from 0 to `largest`: outputs cut to the bits of `largest` are drawn until one is not above it.
///
/// One output has 32 bits, so among more than 2^32 candidates not all are reached.
fn up_to(generator: &mut Mt, largest: usize) -> usize {
    let mask = usize::MAX.checked_shr(largest.leading_zeros()).unwrap_or(0);
    loop {
        let drawn = generator.next_u32() as usize & mask;
        if drawn <= largest {
            return drawn;
        }
    }
}

/// A choice of images that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A size of zero, or no position.
    #[error("a calibration of 0 samples calibrates nothing")]
    Nothing,
    /// The size exceeds the number of files.
    #[error("calibration size {size} is more than the {files} samples there are")]
    TooFewFiles {
        /// Size asked for.
        size: usize,
        /// Number of files.
        files: usize,
    },
    /// Indices that are no position of the list.
    #[error("calibration index {} is out of range, {files} samples are numbered from 0", commas(.indices))]
    OutOfRange {
        /// The indices, as given.
        indices: Vec<usize>,
        /// Number of files.
        files: usize,
    },
    /// Indices that are given more than once.
    #[error("calibration index {} is given more than once", commas(.indices))]
    Repeated {
        /// The indices, each once, ascending.
        indices: Vec<usize>,
    },
    /// More indices than the size allows.
    #[error("calibration size {size} is less than the number of indices, {indices}")]
    SizeBelowIndices {
        /// Size asked for.
        size: usize,
        /// Number of indices.
        indices: usize,
    },
    /// Both ways of choosing at once.
    #[error("calibration indices and a seed exclude each other")]
    SeedWithIndices,
}

impl SamplingError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Nothing => "choose a size of at least 1".to_owned(),
            Self::TooFewFiles { files, .. } => format!("add samples or choose a size of at most {files}"),
            Self::OutOfRange { files: 0, .. } => "add samples".to_owned(),
            Self::OutOfRange { files, .. } => format!("use numbers from 0 to {}", files - 1),
            Self::Repeated { .. } => "give each index once".to_owned(),
            Self::SizeBelowIndices { indices, .. } => {
                format!("leave the size out or choose at least {indices}; what indices leave free is chosen at random")
            }
            Self::SeedWithIndices => {
                format!("leave one of them out; beside indices the rest is chosen with seed {DEFAULT_SEED}")
            }
        }
    }
}

fn commas(values: &[usize]) -> String {
    values.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampling(size: Option<usize>, seed: Option<u32>, indices: &[usize]) -> Sampling {
        Sampling { size, seed, indices: indices.to_vec() }
    }

    #[test]
    fn a_permutation_is_that_of_the_reference_generator() {
        let mut candidates: Vec<usize> = (0..10).collect();
        shuffle(&mut candidates, 0);
        assert_eq!(candidates, [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]);
        let mut generator = Mt::new(0);
        assert_eq!([(); 3].map(|()| generator.next_u32()), [2_357_136_044, 2_546_248_239, 3_071_714_933]);
    }

    #[test]
    fn a_seed_chooses_known_positions() {
        assert_eq!(choose(15, 8, 0, &[]).unwrap(), [1, 2, 4, 6, 8, 9, 13, 14]);
        assert_eq!(choose(20, 8, 3, &[7, 2, 5]).unwrap(), [2, 5, 6, 7, 9, 10, 17, 19]);
    }

    #[test]
    fn without_a_size_indices_or_all_files_are_taken() {
        assert_eq!(Sampling::default().positions(3).unwrap(), [0, 1, 2]);
        assert_eq!(sampling(None, Some(9), &[]).positions(3).unwrap(), [0, 1, 2]);
        assert_eq!(sampling(None, None, &[6, 1]).positions(8).unwrap(), [1, 6]);
    }

    #[test]
    fn without_a_seed_the_default_seed_fills_up() {
        let filled = sampling(Some(8), None, &[7, 2, 5]).positions(20).unwrap();
        assert_eq!(filled, choose(20, 8, DEFAULT_SEED, &[2, 5, 7]).unwrap());
        assert_eq!(sampling(Some(8), None, &[]).positions(15).unwrap(), [1, 2, 4, 6, 8, 9, 13, 14]);
    }

    #[test]
    fn impossible_choices_name_their_numbers() {
        let cases = [
            (sampling(Some(0), None, &[]), "a calibration of 0 samples calibrates nothing"),
            (sampling(Some(6), None, &[]), "calibration size 6 is more than the 5 samples there are"),
            (sampling(Some(6), None, &[0]), "calibration size 6 is more than the 5 samples there are"),
            (sampling(None, None, &[5, 0, 9]), "calibration index 5, 9 is out of range, 5 samples are numbered from 0"),
            (sampling(Some(4), None, &[3, 1, 3, 1, 3]), "calibration index 1, 3 is given more than once"),
            (sampling(Some(1), None, &[3, 1]), "calibration size 1 is less than the number of indices, 2"),
            (sampling(None, Some(0), &[3]), "calibration indices and a seed exclude each other"),
        ];
        for (sampling, message) in cases {
            let error = sampling.positions(5).unwrap_err();
            assert_eq!(error.to_string(), message, "{sampling:?}");
            assert!(!error.hint().is_empty(), "{sampling:?}");
        }
        assert_eq!(Sampling::default().positions(0), Err(SamplingError::Nothing));
    }

    proptest! {
        #[test]
        fn the_choice_has_the_size_ascends_and_holds_the_indices(
            files in 1..60_usize, part in 0.0..1.0_f64, taken in 0.0..1.0_f64, seed: u32,
        ) {
            let size = 1 + (part * (files - 1) as f64) as usize;
            let indices = choose(files, 1 + (taken * (size - 1) as f64) as usize, seed ^ 1, &[]).unwrap();
            let chosen = choose(files, size, seed, &indices).unwrap();
            prop_assert_eq!(chosen.len(), size);
            prop_assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|at| *at < files), "{:?}", chosen);
            prop_assert!(indices.iter().all(|index| chosen.contains(index)), "{:?} {:?}", indices, chosen);
        }
    }
}
