//! What `quantize explain` explains, as data: a text for each topic.
//!
//! The first line of a text says in one sentence what the topic is. What follows is for a terminal of 80 columns; the
//! last line names related topics.

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Other words for it.
    pub(crate) aliases: &'static [&'static str],
    text: &'static str,
}

impl Topic {
    /// The whole text, without a line break at its end.
    pub(crate) fn text(&self) -> &'static str {
        self.text.trim_end()
    }

    /// What it is, in one sentence.
    pub(crate) fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Names of related topics.
    pub(crate) fn related(&self) -> Vec<&'static str> {
        let last = self.text().lines().next_back().and_then(|line| line.strip_prefix("See also: "));
        last.map(|names| names.split(", ").collect()).unwrap_or_default()
    }

    /// The topic of this name or alias.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        let is = |word: &str| word.eq_ignore_ascii_case(name);
        TOPICS.iter().find(|topic| is(topic.name) || topic.aliases.iter().any(|alias| is(alias)))
    }
}

/// All topics, from the numbers in a tensor to the whole command.
pub(crate) const TOPICS: &[Topic] = &[
    Topic { name: "scale", aliases: &["step"], text: include_str!("../topics/scale.md") },
    Topic {
        name: "zero-point",
        aliases: &["zero_point", "zeropoint", "zero"],
        text: include_str!("../topics/zero-point.md"),
    },
    Topic { name: "symmetric", aliases: &["asymmetric"], text: include_str!("../topics/symmetric.md") },
    Topic {
        name: "per-channel",
        aliases: &["per-tensor", "per_channel", "weights"],
        text: include_str!("../topics/per-channel.md"),
    },
    Topic {
        name: "four-bit",
        aliases: &["4-bit", "int4", "groups", "weight-only", "matmulnbits"],
        text: include_str!("../topics/four-bit.md"),
    },
    Topic { name: "bias", aliases: &["biases"], text: include_str!("../topics/bias.md") },
    Topic { name: "bias-correction", aliases: &[], text: include_str!("../topics/bias-correction.md") },
    Topic {
        name: "smooth-quant",
        aliases: &["smoothquant", "smooth", "outliers"],
        text: include_str!("../topics/smooth-quant.md"),
    },
    Topic {
        name: "equalize",
        aliases: &["equalization", "cle", "cross-layer"],
        text: include_str!("../topics/equalize.md"),
    },
    Topic { name: "calibration", aliases: &["calib", "images"], text: include_str!("../topics/calibration.md") },
    Topic { name: "preprocessing", aliases: &["preprocess"], text: include_str!("../topics/preprocessing.md") },
    Topic {
        name: "range-methods",
        aliases: &["range", "ranges", "range-method"],
        text: include_str!("../topics/range-methods.md"),
    },
    Topic { name: "minmax", aliases: &["min-max"], text: include_str!("../topics/minmax.md") },
    Topic { name: "percentile", aliases: &[], text: include_str!("../topics/percentile.md") },
    Topic { name: "mse", aliases: &[], text: include_str!("../topics/mse.md") },
    Topic { name: "kl", aliases: &["cdf-kl", "entropy", "kullback-leibler"], text: include_str!("../topics/kl.md") },
    Topic { name: "fold", aliases: &["folding", "batch-norm"], text: include_str!("../topics/fold.md") },
    Topic { name: "saturation", aliases: &["absorbed", "relu"], text: include_str!("../topics/saturation.md") },
    Topic { name: "qdq", aliases: &["format"], text: include_str!("../topics/qdq.md") },
    Topic { name: "xfdnn", aliases: &["caffe"], text: include_str!("../topics/xfdnn.md") },
    Topic { name: "skip", aliases: &[], text: include_str!("../topics/skip.md") },
    Topic { name: "plan", aliases: &[], text: include_str!("../topics/plan.md") },
    Topic { name: "accuracy", aliases: &["quality"], text: include_str!("../topics/accuracy.md") },
    Topic { name: "compare", aliases: &["layers"], text: include_str!("../topics/compare.md") },
    Topic { name: "sqnr", aliases: &["snr", "db", "noise"], text: include_str!("../topics/sqnr.md") },
    Topic { name: "cosine", aliases: &[], text: include_str!("../topics/cosine.md") },
    Topic { name: "agreement", aliases: &["top-1", "top1"], text: include_str!("../topics/agreement.md") },
    Topic { name: "integer-share", aliases: &["share"], text: include_str!("../topics/integer-share.md") },
    Topic { name: "macs", aliases: &["mac"], text: include_str!("../topics/macs.md") },
    Topic { name: "memory", aliases: &["peak"], text: include_str!("../topics/memory.md") },
    Topic { name: "determinism", aliases: &["threads"], text: include_str!("../topics/determinism.md") },
    Topic { name: "exit-codes", aliases: &["exit-code", "exit"], text: include_str!("../topics/exit-codes.md") },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_means_one_topic() {
        let mut seen = BTreeSet::new();
        for topic in TOPICS {
            assert!(seen.insert(topic.name), "{}", topic.name);
            topic.aliases.iter().for_each(|alias| assert!(seen.insert(alias), "{alias}"));
            assert_eq!(Topic::named(&topic.name.to_uppercase()).map(|t| t.name), Some(topic.name));
        }
        assert!(Topic::named("nonsense").is_none());
    }

    #[test]
    fn texts_fit_a_terminal_and_lead_on() {
        for topic in TOPICS {
            let (name, summary) = (topic.name, topic.summary());
            assert!(summary.ends_with(['.', '`']) && summary.chars().count() <= 62, "{name}: {summary}");
            assert_eq!(topic.text().lines().nth(1), Some(""), "{name}");
            let wide = topic.text().lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{name}");
            assert!(!topic.related().is_empty(), "{name}");
            for related in topic.related() {
                assert!(TOPICS.iter().any(|t| t.name == related) && related != name, "{name}: {related}");
            }
        }
    }
}
