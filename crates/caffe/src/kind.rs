//! Names of layer types: those of the current format, the enumeration of the format before it, and those of forks.

/// A type of the former format: its number, its name there and its name now.
struct Former(u64, &'static str, &'static str);

/// `V1LayerParameter.LayerType`
const FORMER: &[Former] = &[
    Former(1, "ACCURACY", "Accuracy"),
    Former(2, "BNLL", "BNLL"),
    Former(3, "CONCAT", "Concat"),
    Former(4, "CONVOLUTION", "Convolution"),
    Former(5, "DATA", "Data"),
    Former(6, "DROPOUT", "Dropout"),
    Former(7, "EUCLIDEAN_LOSS", "EuclideanLoss"),
    Former(8, "FLATTEN", "Flatten"),
    Former(9, "HDF5_DATA", "HDF5Data"),
    Former(10, "HDF5_OUTPUT", "HDF5Output"),
    Former(11, "IM2COL", "Im2col"),
    Former(12, "IMAGE_DATA", "ImageData"),
    Former(13, "INFOGAIN_LOSS", "InfogainLoss"),
    Former(14, "INNER_PRODUCT", "InnerProduct"),
    Former(15, "LRN", "LRN"),
    Former(16, "MULTINOMIAL_LOGISTIC_LOSS", "MultinomialLogisticLoss"),
    Former(17, "POOLING", "Pooling"),
    Former(18, "RELU", "ReLU"),
    Former(19, "SIGMOID", "Sigmoid"),
    Former(20, "SOFTMAX", "Softmax"),
    Former(21, "SOFTMAX_LOSS", "SoftmaxWithLoss"),
    Former(22, "SPLIT", "Split"),
    Former(23, "TANH", "TanH"),
    Former(24, "WINDOW_DATA", "WindowData"),
    Former(25, "ELTWISE", "Eltwise"),
    Former(26, "POWER", "Power"),
    Former(27, "SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
    Former(28, "HINGE_LOSS", "HingeLoss"),
    Former(29, "MEMORY_DATA", "MemoryData"),
    Former(30, "ARGMAX", "ArgMax"),
    Former(31, "THRESHOLD", "Threshold"),
    Former(32, "DUMMY_DATA", "DummyData"),
    Former(33, "SLICE", "Slice"),
    Former(34, "MVN", "MVN"),
    Former(35, "ABSVAL", "AbsVal"),
    Former(36, "SILENCE", "Silence"),
    Former(37, "CONTRASTIVE_LOSS", "ContrastiveLoss"),
    Former(38, "EXP", "Exp"),
    Former(39, "DECONVOLUTION", "Deconvolution"),
];

/// Types that forks add for what another type does too.
const ALIASES: &[(&str, &str)] = &[("Fc", "InnerProduct"), ("DepthwiseConvolution", "ConvolutionDepthwise")];

/// What a fork for low precision puts behind the name of a type.
const SUFFIX: &str = "Ristretto";

/// The current name of a type of the former format, from its name or number there.
pub(crate) fn upgraded(written: &str) -> Option<&'static str> {
    let number = written.parse().ok();
    FORMER.iter().find(|former| former.1 == written || Some(former.0) == number).map(|former| former.2)
}

/// The name under which a type of the current format is known here.
pub(crate) fn canonical(written: &str) -> &str {
    let kind = written.strip_suffix(SUFFIX).filter(|kind| !kind.is_empty()).unwrap_or(written);
    ALIASES.iter().find(|(alias, _)| *alias == kind).map_or(kind, |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_types_have_names_and_numbers() {
        assert_eq!(upgraded("SOFTMAX_LOSS"), Some("SoftmaxWithLoss"));
        assert_eq!(upgraded("4"), Some("Convolution"));
        assert_eq!((upgraded("Convolution"), upgraded("40"), upgraded("")), (None, None, None));
        assert!(FORMER.iter().zip(1..).all(|(former, number)| former.0 == number));
    }

    #[test]
    fn types_of_forks_have_their_usual_name() {
        let cases = [
            ("ConvolutionRistretto", "Convolution"),
            ("FcRistretto", "InnerProduct"),
            ("DepthwiseConvolution", "ConvolutionDepthwise"),
            ("Ristretto", "Ristretto"),
            ("ReLU6", "ReLU6"),
        ];
        for (written, expected) in cases {
            assert_eq!(canonical(written), expected);
        }
    }
}
