//! What can be wrong with a file of statistics.

use quantize_numerics::NumericsError;

/// Statistics that cannot be read or do not belong together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatisticsError {
    /// The file is something else.
    #[error("this is no file of statistics")]
    NotStatistics,
    /// The file is of another version.
    #[error("the file has version {found}, only version {known} is known")]
    Version {
        /// The file's.
        found: u32,
        /// The one that is read.
        known: u32,
    },
    /// The file contradicts itself.
    #[error("the file is damaged, byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: usize,
        /// How.
        what: &'static str,
    },
    /// A tensor's record cannot be read or merged.
    #[error("tensor `{tensor}`: {source}")]
    Record {
        /// The tensor.
        tensor: String,
        /// Why.
        source: NumericsError,
    },
    /// Two files are not about the same thing.
    #[error("the files cannot be merged: {0}")]
    Different(Difference),
    /// Two files have seen the same sample.
    #[error("both files have seen sample `{sample}`")]
    SampleTwice {
        /// Its name.
        sample: String,
    },
}

/// What two files of statistics do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The model.
    #[error("they are about different models")]
    Model,
    /// The preprocessing.
    #[error("samples were prepared differently, `{first}` and `{second}`")]
    Preparation {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The data set.
    #[error("they are about different data sets, of {first} and {second} samples")]
    Data {
        /// One.
        first: u64,
        /// The other.
        second: u64,
    },
    /// What was observed.
    #[error("they hold different tensors; the recipes or the skipped nodes were not the same")]
    Tensors,
}

impl StatisticsError {
    /// What can be done about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotStatistics => "give a file that `--save-stats` or `quantize stats merge` wrote",
            Self::Version { .. } | Self::Damaged { .. } => "calibrate again with `--save-stats`",
            Self::Record { .. } => return None,
            Self::Different(_) => "shards must come from the same model, data and options, but for `--shard`",
            Self::SampleTwice { .. } => "give each shard once",
        })
    }
}
