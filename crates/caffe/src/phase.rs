//! Which layers of a file belong to the network that is run: those of phase TEST, level 0, without stages.

use crate::params::{FieldError, Params};
use quantize_document::text::Message;

const TRAIN: bool = false;
const TEST: bool = true;

/// `Phase`
const PHASES: &[(&str, u64, bool)] = &[("TRAIN", 0, TRAIN), ("TEST", 1, TEST)];

/// Whether a layer is part of the network: one of its `include` rules holds, if it has any, and no `exclude` rule.
pub(crate) fn is_included(layer: &Message) -> Result<bool, FieldError> {
    let included: Vec<bool> = layer.messages("include").map(holds).collect::<Result<_, _>>()?;
    let excluded: Vec<bool> = layer.messages("exclude").map(holds).collect::<Result<_, _>>()?;
    Ok((included.is_empty() || included.contains(&true)) && !excluded.contains(&true))
}

/// Whether a rule (`NetStateRule`) holds.
fn holds(rule: &Message) -> Result<bool, FieldError> {
    let rule = Params::whole(rule);
    let phase = rule.choice("phase", PHASES)?.unwrap_or(TEST);
    let level = rule.int_or("min_level", 0)? <= 0 && rule.int_or("max_level", 0)? >= 0;
    // No stage is set, so a rule that wants one does not hold, and one that forbids some does.
    Ok(phase == TEST && level && !rule.has("stage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_document::{Limits, SourceFile, TextDocument};

    fn included(text: &str) -> bool {
        let source = SourceFile::from_bytes("net.prototxt", text.as_bytes().to_vec());
        is_included(TextDocument::parse(source, &Limits::default()).unwrap().root()).unwrap()
    }

    #[test]
    fn rules_choose_layers_of_the_test_phase() {
        let cases = [
            ("", true),
            ("phase: TRAIN", true),
            ("include { phase: TEST }", true),
            ("include { phase: 1 }", true),
            ("include { phase: TRAIN }", false),
            ("include { phase: TRAIN } include { phase: TEST }", true),
            ("include: { phase: TEST stage: 'deploy' }", false),
            ("include { not_stage: 'deploy' }", true),
            ("include { min_level: 1 }", false),
            ("include { max_level: -1 }", false),
            ("include { min_level: 0 max_level: 2 }", true),
            ("include { }", true),
            ("exclude { phase: TEST }", false),
            ("exclude { phase: TRAIN }", true),
            ("exclude { stage: 'train' }", true),
            ("exclude { }", false),
        ];
        for (text, expected) in cases {
            assert_eq!(included(text), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_phase_is_an_error() {
        let source = SourceFile::from_bytes("net.prototxt", b"include { phase: TEAT }".to_vec());
        let document = TextDocument::parse(source, &Limits::default()).unwrap();
        let error = is_included(document.root()).unwrap_err();
        assert_eq!(error.to_string(), "phase: `TEAT` is not one of the values it can have");
    }
}
