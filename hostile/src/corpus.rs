//! The inputs of a target: each has a number, from which it follows.
//!
//! First come the inputs that are the same for every length of a run: the valid files as they are, files that cost
//! much, and each valid file cut after every one of its first 4096 bytes. All others are damaged files.

use crate::error::{Error, Result};
use crate::target::{Outcome, Seed, Target};
use quantize_hostile::{Draw, mutate};

/// Bytes of each file after every one of which it is cut.
const CUTS: usize = 4096;

/// The inputs of a target.
pub(crate) struct Corpus {
    target: &'static Target,
    seeds: Vec<Seed>,
    fixed: Vec<Fixed>,
}

#[derive(Clone, Copy)]
enum Fixed {
    Whole(usize),
    Bomb(usize),
    Cut(usize, usize),
}

/// An input.
pub(crate) struct Input<'c> {
    /// What it is, for messages.
    pub(crate) about: String,
    /// The content.
    pub(crate) bytes: Vec<u8>,
    /// The valid file it was made from.
    pub(crate) seed: &'c Seed,
    /// What must come of it.
    pub(crate) outcome: Outcome,
}

impl Corpus {
    /// The inputs of a target.
    ///
    /// # Errors
    ///
    /// If its valid files cannot be had.
    pub(crate) fn of(target: &'static Target) -> Result<Self> {
        let seeds = (target.seeds)()?;
        if seeds.is_empty() {
            return Err(Error::Seed { name: target.name.to_owned(), cause: "there are no valid files".to_owned() });
        }
        let whole = (0..seeds.len()).map(Fixed::Whole);
        let bombs = (0..(target.bombs)().len()).map(Fixed::Bomb);
        let cuts = seeds
            .iter()
            .enumerate()
            .flat_map(|(seed, file)| (0..file.bytes.len().min(CUTS)).map(move |length| Fixed::Cut(seed, length)));
        let fixed = whole.chain(bombs).chain(cuts).collect();
        Ok(Self { target, seeds, fixed })
    }

    /// How many inputs are not damaged at random.
    pub(crate) fn fixed(&self) -> u64 {
        self.fixed.len() as u64
    }

    /// The input of this number.
    pub(crate) fn input(&self, number: u64) -> Input<'_> {
        let fixed = usize::try_from(number).ok().and_then(|number| self.fixed.get(number));
        match fixed.copied() {
            Some(fixed) => self.fixed_input(fixed),
            None => self.damaged(number),
        }
    }

    fn fixed_input(&self, fixed: Fixed) -> Input<'_> {
        match fixed {
            Fixed::Whole(index) => {
                let seed = &self.seeds[index];
                let about = format!("{} as it is", seed.name);
                Input { about, bytes: seed.bytes.clone(), seed, outcome: Outcome::Read }
            }
            Fixed::Cut(index, length) => {
                let seed = &self.seeds[index];
                let refused = (self.target.refuses_cut)(&seed.bytes, length);
                let outcome = if refused { Outcome::Refused } else { Outcome::Any };
                let about = format!("{} cut after {length} bytes", seed.name);
                Input { about, bytes: seed.bytes[..length].to_vec(), seed, outcome }
            }
            Fixed::Bomb(index) => {
                let bomb = &(self.target.bombs)()[index];
                let about = bomb.name.to_owned();
                Input { about, bytes: (bomb.bytes)(), seed: &self.seeds[0], outcome: bomb.outcome }
            }
        }
    }

    fn damaged(&self, number: u64) -> Input<'_> {
        let mut draw = Draw::new(number);
        let (file, donor) = (draw.below(self.seeds.len()), draw.below(self.seeds.len()));
        let (seed, donor) = (&self.seeds[file], &self.seeds[donor]);
        let bytes = mutate::mutated(&mut draw, self.target.form, &seed.bytes, &donor.bytes);
        Input { about: format!("{} damaged", seed.name), bytes, seed, outcome: Outcome::Any }
    }
}
