//! Where in a file something was found, and what was noticed there: the parts that messages of every format share.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where in a network something is wrong. Its text is empty if nothing of it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The file, where it is known.
    pub file: Option<PathBuf>,
    /// Line in a text file, counted from 1.
    pub line: Option<usize>,
    /// The node, layer, initializer or other item, with its kind, e.g. "node `conv1`".
    pub item: Option<String>,
    /// The field, attribute or input of that item.
    pub field: Option<String>,
}

impl Location {
    /// A whole file.
    pub fn file(path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..Self::default() }
    }

    /// An item of a file.
    pub fn item(path: &Path, item: impl Into<String>) -> Self {
        Self { item: Some(item.into()), ..Self::file(path) }
    }

    /// A node of a graph, whatever file it is from.
    pub fn node(name: &str) -> Self {
        Self { item: Some(format!("node `{name}`")), ..Self::default() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        let line = self.line.map(|line| format!("line {line}"));
        let place = file.into_iter().chain(line).collect::<Vec<_>>().join(", ");
        let item = self.item.iter().chain(&self.field).cloned().collect::<Vec<_>>().join(", ");
        let parts: Vec<String> = [place, item].into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(": "))
    }
}

/// Something that was noticed and does not stop the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The item it concerns, with its kind, e.g. "layer `pool1`", if any.
    pub item: Option<String>,
    /// What was noticed.
    pub message: String,
}

impl Problem {
    /// Of a node.
    pub fn of_node(name: &str, message: String) -> Self {
        Self { item: Some(format!("node `{name}`")), message }
    }

    /// Of a layer.
    pub fn of_layer(name: &str, message: String) -> Self {
        Self { item: Some(format!("layer `{name}`")), message }
    }

    /// Of no item in particular.
    pub fn general(message: String) -> Self {
        Self { item: None, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Some(item) => write!(f, "{item}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_place_is_said() {
        let file = Path::new("net.pb");
        assert_eq!(Location::default().to_string(), "");
        assert_eq!(Location::file(file).to_string(), "net.pb");
        assert_eq!(Location::item(file, "node `a`").to_string(), "net.pb: node `a`");
        assert_eq!(Location { line: Some(3), ..Location::file(file) }.to_string(), "net.pb, line 3");
        let field = Some("attribute `T`".to_owned());
        assert_eq!(Location { field, ..Location::node("a") }.to_string(), "node `a`, attribute `T`");
    }

    #[test]
    fn problems_name_their_item() {
        let message = || "carried as it is".to_owned();
        assert_eq!(Problem::of_layer("a", message()).to_string(), "layer `a`: carried as it is");
        assert_eq!(Problem::of_node("a", message()).to_string(), "node `a`: carried as it is");
        assert_eq!(Problem::general(message()).to_string(), "carried as it is");
    }
}
