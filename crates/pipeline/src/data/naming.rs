//! Which path feeds which input: a path alone feeds the model, `NAME=PATH` the input of that name.

use crate::error::Error;
use quantize_ir::{Graph, ValueId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Inputs named in a message before the rest is left out.
const NAMED: usize = 8;

/// What the paths given feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Assignment {
    /// One path for all inputs.
    Whole(PathBuf),
    /// A path for each input, in the model's order.
    Each(Vec<(ValueId, PathBuf)>),
}

impl Assignment {
    /// What `given` means for the inputs of `graph`. What stands before an `=` is a name if an input is called so; a
    /// path that exists may contain `=` too.
    ///
    /// # Errors
    /// If an input is unknown, named twice or left without data, or a path without name stands beside others.
    pub(super) fn of(given: &[PathBuf], graph: &Graph, model: &Path) -> Result<Self, Error> {
        let named = Named { graph, model };
        let mut by_input: BTreeMap<ValueId, &Path> = BTreeMap::new();
        let texts: Vec<Text<'_>> = given.iter().map(|path| named.read(path)).collect::<Result<_, _>>()?;
        if let [Text::Path(path)] = texts.as_slice() {
            return Ok(Self::Whole((*path).to_owned()));
        }
        for text in texts {
            let Text::Named(value, path) = text else { return Err(named.nameless(&text)) };
            if let Some(first) = by_input.insert(value, path) {
                return Err(named.twice(value, first, path));
            }
        }
        let missing: Vec<ValueId> = graph.inputs().iter().copied().filter(|v| !by_input.contains_key(v)).collect();
        if !missing.is_empty() || by_input.is_empty() {
            return Err(named.missing(&missing));
        }
        let path = |value: &ValueId| Some((*value, by_input.get(value)?.to_path_buf()));
        Ok(Self::Each(graph.inputs().iter().filter_map(path).collect()))
    }
}

/// One of the texts given.
enum Text<'p> {
    Path(&'p Path),
    Named(ValueId, &'p Path),
}

/// The names of a model's inputs.
struct Named<'g> {
    graph: &'g Graph,
    model: &'g Path,
}

impl Named<'_> {
    fn name(&self, value: ValueId) -> &str {
        &self.graph.value(value).name
    }

    fn read<'p>(&self, path: &'p Path) -> Result<Text<'p>, Error> {
        let Some(text) = path.to_str() else { return Ok(Text::Path(path)) };
        let split = |value: ValueId| Some((value, text.strip_prefix(self.name(value))?.strip_prefix('=')?));
        let longest = self.graph.inputs().iter().filter_map(|value| split(*value)).min_by_key(|(_, rest)| rest.len());
        match (longest, text.split_once('=')) {
            (Some((value, rest)), _) => Ok(Text::Named(value, Path::new(rest))),
            (None, Some((name, rest))) if !path.exists() => Err(self.unknown(name, rest)),
            _ => Ok(Text::Path(path)),
        }
    }

    fn refuse(&self, cause: String, cure: String) -> Error {
        Error::Input { model: self.model.to_owned(), cause, cure }
    }

    fn unknown(&self, name: &str, path: &str) -> Error {
        let names: Vec<&str> = self.graph.inputs().iter().map(|value| self.name(*value)).collect();
        let cure = match nearest(name, &names) {
            Some(near) => format!("write `{near}={path}`"),
            None => format!("inputs of this model: {}", listed(&names)),
        };
        self.refuse(format!("it has no input `{name}`"), cure)
    }

    fn twice(&self, value: ValueId, first: &Path, second: &Path) -> Error {
        let cause =
            format!("input `{}` is given twice: {} and {}", self.name(value), first.display(), second.display());
        self.refuse(cause, "give one path for each input; a folder holds any number of samples".into())
    }

    fn nameless(&self, text: &Text<'_>) -> Error {
        let (Text::Path(path) | Text::Named(_, path)) = text;
        let names: Vec<&str> = self.graph.inputs().iter().map(|value| self.name(*value)).collect();
        let cause = format!("{} is one of several paths and says no input", path.display());
        self.refuse(cause, format!("write NAME={}, where NAME is one of {}", path.display(), listed(&names)))
    }

    fn missing(&self, values: &[ValueId]) -> Error {
        let names: Vec<&str> = values.iter().map(|value| self.name(*value)).collect();
        let [first, ..] = names.as_slice() else {
            return self.refuse("it has no inputs".into(), "a model without inputs has nothing to calibrate".into());
        };
        let cause = match names.len() {
            1 => format!("input `{first}` has no data"),
            _ => format!("inputs {} have no data", listed(&names)),
        };
        self.refuse(cause, format!("give each input its own: {first}=PATH"))
    }
}

/// The error that a path without a name cannot feed several inputs.
pub(super) fn several_inputs(graph: &Graph, model: &Path, path: &Path, held: &str) -> Error {
    let names: Vec<&str> = graph.inputs().iter().map(|value| graph.value(*value).name.as_str()).collect();
    let cause = format!("it has {} inputs ({}), and {} holds {held}", names.len(), listed(&names), path.display());
    let first = names.first().copied().unwrap_or("NAME");
    let cure = format!(
        "give each input its own data, as {first}=PATH and so on, or .npz files that hold an array for each input"
    );
    Error::Input { model: model.to_owned(), cause, cure }
}

fn listed(names: &[&str]) -> String {
    let mut listed: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    listed.extend((names.len() > NAMED).then(|| "…".to_owned()));
    listed.join(", ")
}

/// The name that differs from `name` in the fewest letters, if that is less than half of them.
fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let distances = names.iter().map(|known| (strsim::levenshtein(name, known), *known));
    let (distance, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (2 * distance < near.chars().count()).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::Value;

    fn graph(names: &[&str]) -> Graph {
        let mut graph = Graph::new();
        let values = names.iter().map(|name| graph.add_value(Value::named(*name))).collect();
        graph.set_inputs(values);
        graph
    }

    fn assigned(names: &[&str], given: &[&str]) -> Result<Vec<(String, String)>, Error> {
        let (graph, given) = (graph(names), given.iter().map(PathBuf::from).collect::<Vec<_>>());
        let text = |path: &Path| path.display().to_string();
        Ok(match Assignment::of(&given, &graph, Path::new("m.onnx"))? {
            Assignment::Whole(path) => vec![("*".into(), text(&path))],
            Assignment::Each(each) => {
                each.iter().map(|(value, path)| (graph.value(*value).name.clone(), text(path))).collect()
            }
        })
    }

    #[test]
    fn a_name_is_an_input_of_the_model() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(assigned(&["x"], &["photos"]).unwrap(), [pair("*", "photos")]);
        assert_eq!(assigned(&["x"], &["x=photos"]).unwrap(), [pair("x", "photos")]);
        let both = [pair("ids", "a"), pair("mask", "b=c")];
        assert_eq!(assigned(&["ids", "mask"], &["mask=b=c", "ids=a"]).unwrap(), both, "in the model's order");
        let odd = [pair("a", "1"), pair("a=b", "2")];
        assert_eq!(assigned(&["a", "a=b"], &["a=1", "a=b=2"]).unwrap(), odd, "the longest name");
    }

    #[test]
    fn what_does_not_fit_the_inputs_is_said() {
        let said = |names: &[&str], given: &[&str]| {
            let error = assigned(names, given).unwrap_err();
            format!("{error}; {}", error.hint().unwrap())
        };
        let unknown = said(&["input_ids", "mask"], &["input_id=a", "mask=b"]);
        assert!(unknown.contains("no input `input_id`; write `input_ids=a`"), "{unknown}");
        let unlike = said(&["input_ids", "mask"], &["pixels=a"]);
        assert!(unlike.ends_with("inputs of this model: `input_ids`, `mask`"), "{unlike}");
        let twice = said(&["x"], &["x=a", "x=b"]);
        assert!(twice.contains("input `x` is given twice: a and b"), "{twice}");
        let missing = said(&["a", "b", "c"], &["b=1"]);
        assert!(missing.contains("inputs `a`, `c` have no data; give each input its own: a=PATH"), "{missing}");
        let nameless = said(&["a", "b"], &["a=1", "folder"]);
        assert!(nameless.contains("folder is one of several paths and says no input"), "{nameless}");
    }
}
