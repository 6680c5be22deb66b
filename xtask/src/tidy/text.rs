//! Rules of the text of any tracked file: size, white space, words that do not belong in the tree.

use std::fs;
use std::path::{Path, PathBuf};

use super::Problem;
use crate::error::{Result, at};
use crate::workspace;

/// The largest file of the tree, in bytes.
const LARGEST: u64 = 1 << 20;

/// Extensions of files whose white space is checked.
const TEXT: &[&str] = &["rs", "md", "toml"];

/// Written by cargo, which names the registry in it.
const LOCK_FILE: &str = "Cargo.lock";

/// What no line may contain as a whole word, and why. The strings are cut in two so that this file passes.
const UNWANTED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), UNFINISHED),
    (concat!("FIX", "ME"), UNFINISHED),
    (concat!("XX", "X"), UNFINISHED),
    (concat!("HA", "CK"), UNFINISHED),
    (concat!("todo", "!"), UNFINISHED),
    (concat!("unimplemented", "!"), UNFINISHED),
    (concat!("crates", ".io"), REGISTRY),
    (concat!("pypi", ".org"), REGISTRY),
    (concat!("pythonhosted", ".org"), REGISTRY),
    (concat!("/wo", "rk/"), ABSOLUTE),
    (concat!("/ho", "me/"), ABSOLUTE),
    (concat!("/ro", "ot/"), ABSOLUTE),
];

const UNFINISHED: &str = "marks unfinished work; finish it or open an issue";
const REGISTRY: &str = "names the host of a registry; name the package only";
const ABSOLUTE: &str = "is a path of one machine; make it relative or an option";

/// The problems of all tracked files.
pub(super) fn problems(files: &[PathBuf]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for file in files {
        let path = workspace::root().join(file);
        let size = fs::metadata(&path).map_err(at(&path))?.len();
        if size > LARGEST {
            problems.push(Problem::file(file, format!("has {size} bytes; the limit is {LARGEST}")));
            continue;
        }
        let bytes = fs::read(&path).map_err(at(&path))?;
        let is_binary = bytes.contains(&0);
        if let (false, Ok(text)) = (is_binary, std::str::from_utf8(&bytes)) {
            problems.extend(of_text(file, text));
        }
    }
    Ok(problems)
}

/// The problems of one text file.
fn of_text(file: &Path, text: &str) -> Vec<Problem> {
    let checks_space = file.extension().and_then(|name| name.to_str()).is_some_and(|name| TEXT.contains(&name));
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if checks_space && line.contains('\t') {
            problems.push(Problem::line(file, index, "has a tab; use spaces"));
        }
        if checks_space && line.ends_with(char::is_whitespace) {
            problems.push(Problem::line(file, index, "ends in white space"));
        }
        if file != Path::new(LOCK_FILE) {
            let words = UNWANTED.iter().filter(|(word, _)| has_word(line, word));
            problems.extend(words.map(|(word, why)| Problem::line(file, index, format!("`{word}` {why}"))));
        }
    }
    problems
}

/// Whether the line has the word with no letter, digit or `_` before it, nor after it if it ends in a letter.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let open_end = !word.ends_with(joins);
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(joins) && (open_end || !after.is_some_and(joins))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_judged() {
        let cases = [
            ("plain", "a.rs", "let x = 1;\n".to_owned(), 0),
            ("a tab", "a.rs", "\tlet x = 1;\n".to_owned(), 1),
            ("a tab elsewhere", "Makefile", "\tcc\n".to_owned(), 0),
            ("trailing space", "a.md", "text \n".to_owned(), 1),
            ("a mark", "a.py", format!("# {}: later\n", concat!("TO", "DO")), 1),
            ("a part of a word", "a.py", format!("{}S = 1\n", concat!("TO", "DO")), 0),
            ("a macro", "a.rs", format!("{}()\n", concat!("todo", "!")), 1),
            ("a host", "a.md", format!("see https://{}/x\n", concat!("crates", ".io")), 1),
            ("a path", "a.toml", format!("path = \"{}x\"\n", concat!("/wo", "rk/")), 1),
            ("a relative path", "a.toml", format!("path = \"frame{}x\"\n", concat!("/wo", "rk/")), 0),
            ("the lock file", "Cargo.lock", format!("registry+https://{}\n", concat!("crates", ".io")), 0),
            ("all at once", "a.rs", format!("\t// {} \n", concat!("HA", "CK")), 3),
        ];
        for (name, file, text, expected) in cases {
            let problems = of_text(Path::new(file), &text);
            assert_eq!(problems.len(), expected, "{name}: {problems:?}");
        }
    }
}
