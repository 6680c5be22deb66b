//! Names as users write them: `^a` and `a:0` mean the node `a`, and a name that does not exist is close to one that
//! does.

use crate::node::Input;

/// Names that are at least so similar are suggested.
const SIMILAR: f64 = 0.75;
/// How many of them.
const SUGGESTIONS: usize = 3;

/// The node that a user's spelling of an input or output means.
pub fn node_name(spelled: &str) -> &str {
    Input::parse(spelled.trim()).node
}

/// The nodes in a list separated by commas; empty parts are left out.
pub fn node_names(list: &str) -> Vec<String> {
    list.split(',').map(node_name).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The question whether one of the names that come nearest was meant.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let last = |name: &'n str| name.rsplit('/').next().unwrap_or(name);
    let score = |known: &'n str| {
        let whole = strsim::jaro_winkler(name, known);
        let part = if last(known).eq_ignore_ascii_case(name) { 1.0 } else { 0.0 };
        whole.max(part)
    };
    let mut scored: Vec<(f64, &str)> =
        known.map(|known| (score(known), known)).filter(|(s, _)| *s >= SIMILAR).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let names: Vec<String> = scored.iter().take(SUGGESTIONS).map(|(_, name)| format!("`{name}`")).collect();
    let list = match names.split_last() {
        None => return None,
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    };
    Some(format!("did you mean {list}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_node() {
        assert_eq!(node_names("a:0, ^b ,,c/d"), ["a", "b", "c/d"]);
    }

    #[test]
    fn similar_names_are_suggested() {
        let known = ["MobilenetV1/Predictions/Reshape", "input", "MobilenetV1/Logits"];
        let suggest = |name| nearest(name, known.into_iter());
        assert_eq!(suggest("imput").as_deref(), Some("did you mean `input`?"));
        assert_eq!(suggest("logits").as_deref(), Some("did you mean `MobilenetV1/Logits`?"));
        assert_eq!(suggest("zzz"), None);
    }
}
