//! Rules of Rust files: module docs, no unsafe code, file access only where it belongs.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Problem;
use crate::error::{Result, at};
use crate::workspace;

/// Crates whose code may be `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["kernels"];

/// Crates that may read and write files.
const MAY_USE_FILES: &[&str] = &["document", "calib", "cli", "hostile", "xtask", "tests"];

/// The problems of all Rust files among the tracked ones.
pub(super) fn problems(files: &[PathBuf]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let path = workspace::root().join(file);
        let source = fs::read_to_string(&path).map_err(at(&path))?;
        let test_module = is_test_module(file)?;
        problems.extend(of_file(file, &source, test_module));
    }
    Ok(problems)
}

/// The problems of one file; `test_module` tells that all of it is test code.
fn of_file(file: &Path, source: &str, test_module: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !source.starts_with("//!") {
        problems.push(Problem::file(file, "must start with `//!` saying what the module holds"));
    }
    if lacks_forbid(file, source) {
        problems.push(Problem::file(file, "lacks `#![forbid(unsafe_code)]`"));
    }
    if !test_module && !may_use_files(file) {
        problems.extend(file_accesses(source).into_iter().map(|line| {
            let message = format!("`std::fs` is only for {}; go through one of them", MAY_USE_FILES.join(", "));
            Problem::line(file, line, message)
        }));
    }
    problems
}

/// Whether the file is the root of a crate that must forbid unsafe code, and does not.
fn lacks_forbid(file: &Path, source: &str) -> bool {
    let root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
    let exempt = member(file).is_some_and(|member| MAY_BE_UNSAFE.contains(&member));
    root && !exempt && !source.lines().any(|line| line == "#![forbid(unsafe_code)]")
}

/// Whether the file may use `std::fs`: by its crate, or as a build script or a test target.
fn may_use_files(file: &Path) -> bool {
    let exempt_place = file.ends_with("build.rs") || !file.components().any(|part| part.as_os_str() == "src");
    exempt_place || member(file).is_some_and(|member| MAY_USE_FILES.contains(&member))
}

/// The folder of the crate a file belongs to: `ir` for `crates/ir/src/lib.rs`, `xtask` for `xtask/src/main.rs`.
fn member(file: &Path) -> Option<&str> {
    let mut parts = file.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    match parts.next() {
        Some("crates") => parts.next(),
        first => first,
    }
}

/// Whether the module's declaration in the file above it, or in one above that, stands under `#[cfg(test)]`.
fn is_test_module(file: &Path) -> Result<bool> {
    let mut module = file.to_owned();
    while let Some(parent) = parent_module(&module) {
        let path = workspace::root().join(&parent);
        let source = fs::read_to_string(&path).map_err(at(&path))?;
        let name = module_name(&module);
        if declares_test_module(&source, &name) {
            return Ok(true);
        }
        module = parent;
    }
    Ok(false)
}

/// The file that declares the module of this file, if there is one.
fn parent_module(file: &Path) -> Option<PathBuf> {
    let folder = match file.file_name()?.to_str()? {
        "lib.rs" | "main.rs" | "build.rs" => return None,
        "mod.rs" => file.parent()?.parent()?,
        _ => file.parent()?,
    };
    let candidates =
        [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs"), folder.join("main.rs")];
    candidates.into_iter().find(|candidate| candidate != file && workspace::root().join(candidate).is_file())
}

/// `wire` for both `wire.rs` and `wire/mod.rs`.
fn module_name(file: &Path) -> String {
    let named = if file.ends_with("mod.rs") { file.parent().unwrap_or(file) } else { file };
    named.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a source has `#[cfg(test)] mod NAME;`.
fn declares_test_module(source: &str, name: &str) -> bool {
    let declaration = format!("mod {name};");
    let mut attributes = false;
    for line in source.lines().map(str::trim) {
        if line.ends_with(&declaration) && attributes {
            return true;
        }
        attributes = line == "#[cfg(test)]" || (attributes && line.starts_with("#["));
    }
    false
}

/// The lines, counted from 0, that use `std::fs` outside comments and test code.
fn file_accesses(source: &str) -> Vec<usize> {
    let code = without_tests_and_comments(source);
    let mut found: Vec<usize> =
        code.iter().filter(|(_, text)| text.contains("std::fs")).map(|(line, _)| *line).collect();
    found.extend(grouped_imports(&code));
    found.sort_unstable();
    found
}

/// The lines where a `use std::{…}` begins that imports `fs`.
fn grouped_imports(code: &[(usize, &str)]) -> Vec<usize> {
    let begins = code.iter().enumerate().filter(|(_, (_, text))| text.contains("use std::{"));
    let imports_fs = |start: usize| {
        let statement: Vec<&str> = code.iter().skip(start).map(|(_, text)| *text).collect();
        let statement = statement.join(" ");
        let statement = statement.split(';').next().unwrap_or_default();
        statement.split(['{', '}', ',', ' ']).any(|item| item == "fs" || item.starts_with("fs::"))
    };
    begins.filter(|(start, _)| imports_fs(*start)).map(|(_, (line, _))| *line).collect()
}

/// The lines of a formatted source, with their numbers, that are neither comments nor inside an item under
/// `#[cfg(test)]`. Such an item ends at the closing brace that is indented as its attribute is.
fn without_tests_and_comments(source: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut test_item: Option<String> = None;
    for (number, line) in source.lines().enumerate() {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        if let Some(end) = &test_item {
            let declaration = text.ends_with(';') && line.len() - text.len() == end.len() - 1;
            if line == end || declaration {
                test_item = None;
            }
        } else if text.starts_with("#[cfg(test)]") {
            test_item = Some(format!("{indent}}}"));
        } else if !text.starts_with("//") {
            kept.push((number, text));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_access_is_found_in_every_spelling() {
        let cases: [(&str, &str, &[usize]); 8] = [
            ("none", "//! Doc.\nuse std::path::Path;\n", &[]),
            ("an import", "//! Doc.\nuse std::fs;\n", &[1]),
            ("a full path", "fn f() {\n    std::fs::read(p)\n}\n", &[1]),
            ("a group", "use std::{fs, io};\n", &[0]),
            ("a group over lines", "use std::{\n    fs::File,\n    io,\n};\n", &[0]),
            ("a comment", "// std::fs is not used\n/// nor `std::fs` here\n", &[]),
            ("a test module", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::fs;\n", &[4]),
            ("a test declaration", "#[cfg(test)]\nmod testing;\nuse std::fs;\n", &[2]),
        ];
        for (name, source, expected) in cases {
            assert_eq!(file_accesses(source), expected, "{name}");
        }
    }

    #[test]
    fn each_rule_has_its_own_problem() {
        let good = "//! Doc.\n#![forbid(unsafe_code)]\n";
        let cases = [
            ("good", "crates/ir/src/lib.rs", good.to_owned(), 0),
            ("no module docs", "crates/ir/src/shape.rs", "use a;\n".to_owned(), 1),
            ("no forbid", "crates/ir/src/lib.rs", "//! Doc.\n".to_owned(), 1),
            ("kernels may be unsafe", "crates/kernels/src/lib.rs", "//! Doc.\n".to_owned(), 0),
            ("files in the graph", "crates/ir/src/graph.rs", "//! Doc.\nuse std::fs;\n".to_owned(), 1),
            ("files in calibration", "crates/calib/src/dataset.rs", "//! Doc.\nuse std::fs;\n".to_owned(), 0),
            ("files in a build script", "crates/proto/build.rs", "//! Doc.\nuse std::fs;\n".to_owned(), 0),
            ("files in a test target", "crates/ir/tests/all.rs", "//! Doc.\nuse std::fs;\n".to_owned(), 0),
            ("everything at once", "crates/ir/src/lib.rs", "use std::fs;\n".to_owned(), 3),
        ];
        for (name, file, source, expected) in cases {
            let problems = of_file(Path::new(file), &source, false);
            assert_eq!(problems.len(), expected, "{name}: {problems:?}");
        }
        assert!(of_file(Path::new("crates/ir/src/tests.rs"), "//! Doc.\nuse std::fs;\n", true).is_empty());
    }

    #[test]
    fn test_modules_are_known_by_their_declaration() {
        let cases = [
            ("plain", "mod tests;\n", false),
            ("test", "#[cfg(test)]\nmod tests;\n", true),
            ("public in the crate", "#[cfg(test)]\npub(crate) mod tests;\n", true),
            ("second attribute", "#[cfg(test)]\n#[rustfmt::skip]\nmod tests;\n", true),
            ("attribute of another item", "#[cfg(test)]\nmod other;\nmod tests;\n", false),
        ];
        for (name, source, expected) in cases {
            assert_eq!(declares_test_module(source, "tests"), expected, "{name}");
        }
    }
}
