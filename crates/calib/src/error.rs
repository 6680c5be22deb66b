//! What can go wrong between a path on disk and a model input, with advice where there is any.

use std::io;
use std::path::PathBuf;

use crate::resample::Size;
use crate::sampling::SamplingError;

/// Failure to read, decode or preprocess calibration data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibError {
    /// The data set path does not exist.
    #[error("data set {} does not exist", .path.display())]
    Missing {
        /// Path as given.
        path: PathBuf,
        /// Kinds of files that belong to a data set, in words.
        wanted: &'static str,
    },
    /// The data set path is neither a folder nor a file of a kind that is wanted.
    #[error("data set {} is neither a folder nor a {wanted} file", .path.display())]
    NotADataSet {
        /// Path as given.
        path: PathBuf,
        /// Kinds of files that belong to a data set, in words.
        wanted: &'static str,
    },
    /// The folder holds no file of a kind that is wanted.
    #[error("no {wanted} file in {}, found {} and {}", .path.display(), counted(*.files, "other file"), counted(*.folders, "folder"))]
    NoSamples {
        /// The folder.
        path: PathBuf,
        /// Kinds of files that belong to a data set, in words.
        wanted: &'static str,
        /// Number of files of other kinds.
        files: usize,
        /// Number of folders directly inside the folder.
        folders: usize,
    },
    /// A folder holds images and arrays.
    #[error("{} holds {} and {}", .path.display(), counted(*.images, "image"), counted(*.arrays, "array file"))]
    MixedKinds {
        /// The folder.
        path: PathBuf,
        /// Number of images.
        images: usize,
        /// Number of files of arrays.
        arrays: usize,
    },
    /// The operating system refused to list or read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// File or folder being read.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file is longer than the limit allows.
    #[error("{} has {bytes} bytes, the limit is {limit}", .path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes (a lower bound if it grew while being read).
        bytes: u64,
        /// Longest length allowed.
        limit: u64,
    },
    /// The sample number does not exist.
    #[error("data set {} has {len} images, there is no image {index}", .path.display())]
    NoSuchImage {
        /// The data set.
        path: PathBuf,
        /// Number asked for, from 0.
        index: usize,
        /// Number of images.
        len: usize,
    },
    /// An image claims more pixels than the limit allows.
    #[error("image {name} has {size} pixels, the limit is {limit} pixels")]
    ImageTooLarge {
        /// The image, by its path if it was read from a file.
        name: String,
        /// Size in the image's header.
        size: Size,
        /// Largest product of width and height allowed.
        limit: u64,
    },
    /// The content is damaged, cut short or of a format that is not read.
    #[error("cannot decode image {name}: {cause}")]
    Decode {
        /// The image, by its path if it was read from a file.
        name: String,
        /// What the decoder found.
        cause: String,
    },
    /// Width, height and number of bytes of an image disagree, or there is no pixel.
    #[error("image {name} of {size} pixels cannot have {bytes} bytes of RGB")]
    PixelCount {
        /// The image, by its path if it was read from a file.
        name: String,
        /// Claimed size.
        size: Size,
        /// Bytes given; width · height · 3 are needed.
        bytes: usize,
    },
    /// The crop window does not fit.
    #[error("crop {crop} is larger than image {name}, which is {available} after resizing from {original}")]
    CropTooLarge {
        /// The image, by its path if it was read from a file.
        name: String,
        /// Size of the crop window.
        crop: Size,
        /// Size the window is taken from.
        available: Size,
        /// Size of the decoded image.
        original: Size,
    },
    /// A resize or crop of zero pixels.
    #[error("{what} {size} has no pixels")]
    EmptySize {
        /// The option: `resize` or `crop`.
        what: &'static str,
        /// Its value.
        size: Size,
    },
    /// A net input without values.
    #[error("a net input of {channels} channels and {size} pixels holds nothing")]
    EmptyInput {
        /// Number of channels.
        channels: usize,
        /// Width and height.
        size: Size,
    },
    /// A sample has other channels than the net's input.
    #[error("{name} has {}, the net takes {channels}", counted(*.found, "channel"))]
    ChannelCount {
        /// The image or array, by its path if it was read from a file.
        name: String,
        /// Number of channels of the sample.
        found: usize,
        /// Number of channels of the net's input.
        channels: usize,
    },
    /// An order of axes or channels cannot be used.
    #[error("{what} {}: {cause}", .order.iter().map(usize::to_string).collect::<Vec<_>>().join(","))]
    Order {
        /// The option: `transpose` or `channel swap`.
        what: &'static str,
        /// Its value.
        order: Vec<usize>,
        /// What is wrong.
        cause: String,
        /// What would be right.
        cure: String,
    },
    /// Resizing would create too many pixels.
    #[error("resizing image {name} from {original} to {resized} makes more than {limit} pixels")]
    ResizeTooLarge {
        /// The image, by its path if it was read from a file.
        name: String,
        /// Size of the decoded image.
        original: Size,
        /// Size asked for.
        resized: Size,
        /// Most pixels allowed.
        limit: u64,
    },
    /// Mean or scale has the wrong number of values.
    #[error("{what} has {found} values for {channels} channels")]
    ListLength {
        /// The option: `mean` or `scale`.
        what: &'static str,
        /// Number of values given.
        found: usize,
        /// Number of channels of the sample.
        channels: usize,
    },
    /// Mean or scale is NaN or infinite, or a scale is zero.
    #[error("{what} value {value} is not usable")]
    BadValue {
        /// The option: `mean` or `scale`.
        what: &'static str,
        /// The value.
        value: f32,
    },
    /// A name that stands for a choice is unknown.
    #[error("unknown {what} {name:?}")]
    UnknownName {
        /// Kind of choice.
        what: &'static str,
        /// Name as given.
        name: String,
        /// Names that are known, separated by commas.
        known: String,
    },
    /// A line of a label file cannot be used.
    #[error("{}:{line}: {cause}", .path.display())]
    LabelLine {
        /// The label file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        cause: String,
    },
    /// The label file holds no label.
    #[error("label file {} holds no label", .path.display())]
    NoLabels {
        /// The label file.
        path: PathBuf,
    },
    /// Some samples have no label.
    #[error("{missing} of {samples} samples have no label in {}, first {}", .path.display(), .first.join(", "))]
    Unlabelled {
        /// The label file.
        path: PathBuf,
        /// Number of samples without a label.
        missing: usize,
        /// Number of samples.
        samples: usize,
        /// Names of the first few of them.
        first: Vec<String>,
    },
    /// An array where only an image will do.
    #[error("{name} is an array, an image is needed")]
    NotAnImage {
        /// The array, by its path if it was read from a file.
        name: String,
    },
    /// An array is damaged, or its shape or values do not fit their use.
    #[error("cannot use array {name}: {cause}")]
    Array {
        /// The array, by its path if it was read from a file.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// A file of arrays is damaged, cut short or of a format that is not read.
    #[error("cannot read {}: {cause}", .path.display())]
    ArrayFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The choice of images cannot be made.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

/// A number with its noun, in the plural unless it is one.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

impl CalibError {
    /// What the user can do about it, if that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::NoSamples { folders: 1.., .. } => "sub-folders are not searched; name one of them",
            Self::Missing { wanted, .. } | Self::NotADataSet { wanted, .. } | Self::NoSamples { wanted, .. } => {
                return Some(format!("name a folder that holds {wanted} files, or one such file"));
            }
            Self::MixedKinds { .. } => "keep images and arrays in folders of their own, and name one of them",
            Self::ImageTooLarge { .. } | Self::FileTooLarge { .. } => "remove the file from the folder or shrink it",
            Self::Decode { .. } => "remove the file from the folder or save it again as PNG or JPEG",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "check the spelling of the path",
            Self::ListLength { .. } => "give one value for all channels or one value per channel",
            Self::BadValue { .. } => "values must be finite, and a scale must not be zero; x = (pixel - mean) * scale",
            Self::LabelLine { .. } | Self::NoLabels { .. } => "each line is `file name,class number`",
            Self::Unlabelled { .. } => "add a line `file name,class number` for each sample",
            Self::CropTooLarge { crop, .. } => {
                let side = crop.width.max(crop.height);
                return Some(format!("resize the short side to at least {side} first, or choose a smaller crop"));
            }
            Self::Array { .. } => {
                "save it with numpy.save as little-endian numbers; a sample is height x width x channels"
            }
            Self::ArrayFile { .. } => {
                "write it with numpy.save or numpy.savez as little-endian numbers, or as a serialized ONNX TensorProto"
            }
            Self::ChannelCount { .. } => {
                "images have three channels and can be made gray; feed other nets arrays of height x width x channels"
            }
            Self::Order { cure, .. } => return Some(cure.clone()),
            Self::Sampling(error) => return Some(error.hint()),
            Self::UnknownName { known, .. } => return Some(format!("known are {known}")),
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
