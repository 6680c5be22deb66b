//! The page about the architecture keeps up with the workspace.

use std::fs;

use super::Problem;
use crate::error::{Result, at};
use crate::workspace::{self, Metadata};

/// The page that names every crate.
const PAGE: &str = "docs/architecture.md";

/// Members of the workspace that the page does not name; or that there is no page.
pub(super) fn problems(metadata: &Metadata) -> Result<Vec<Problem>> {
    let path = workspace::root().join(PAGE);
    if !path.is_file() {
        return Ok(vec![Problem::file(PAGE, "missing; it has to describe each crate folder")]);
    }
    let page = fs::read_to_string(&path).map_err(at(&path))?;
    let unnamed = folders(metadata).into_iter().filter(|folder| !names(&page, folder));
    Ok(unnamed.map(|folder| Problem::file(PAGE, format!("does not name `{folder}`"))).collect())
}

/// Whether a page names a folder: `` `crates/ir` ``, `` `crates/ir/` `` or just `` `ir` ``.
fn names(page: &str, folder: &str) -> bool {
    let short = folder.rsplit('/').next().unwrap_or(folder);
    [folder, short].iter().any(|name| page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}/`")))
}

/// The folders of the members relative to the root: `crates/ir`, `xtask`.
fn folders(metadata: &Metadata) -> Vec<String> {
    let folder = |package: &workspace::Package| {
        let folder = package.manifest_path.parent()?.strip_prefix(workspace::root()).ok()?;
        Some(folder.to_string_lossy().into_owned())
    };
    metadata.packages.iter().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_by_its_path_or_its_last_part() {
        let cases = [
            ("see `crates/ir`", "crates/ir", true),
            ("see `crates/ir/`", "crates/ir", true),
            ("| `ir` | graph |", "crates/ir", true),
            ("`tests/` holds suites", "tests", true),
            ("the irregular `iris`", "crates/ir", false),
            ("cargo xtask tidy", "xtask", false),
        ];
        for (page, folder, expected) in cases {
            assert_eq!(names(page, folder), expected, "{folder} in {page}");
        }
    }
}
