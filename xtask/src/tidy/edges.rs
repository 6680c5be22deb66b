//! Which of our crates may use which: the layers of the architecture as a table.

use std::path::{Path, PathBuf};

use super::Problem;
use crate::workspace::{self, Dependency, Metadata, Package};

/// What a package may use among the members of the workspace.
enum Allowed {
    /// These folders, directly.
    Only(&'static [&'static str]),
    /// Any of them.
    Any,
}

/// Folder of a package and what it may use; folders are relative to `crates/`.
const EDGES: &[(&str, Allowed)] = &[
    ("numerics", Allowed::Only(&[])),
    ("document", Allowed::Only(&[])),
    ("proto", Allowed::Only(&[])),
    ("kernels", Allowed::Only(&[])),
    ("parallel", Allowed::Only(&[])),
    ("ir", Allowed::Only(&["numerics"])),
    ("exec", Allowed::Only(&["ir", "kernels", "numerics"])),
    ("calib", Allowed::Only(&["ir", "numerics"])),
    ("passes", Allowed::Only(&["ir", "numerics"])),
    ("optimize", Allowed::Only(&["ir", "exec", "numerics", "parallel"])),
    ("onnx", Allowed::Only(&["ir", "document", "proto", "numerics"])),
    ("caffe", Allowed::Only(&["ir", "document", "numerics"])),
    ("tensorflow", Allowed::Only(&["ir", "document", "numerics"])),
    (
        "pipeline",
        Allowed::Only(&[
            "ir",
            "document",
            "proto",
            "numerics",
            "kernels",
            "exec",
            "calib",
            "passes",
            "parallel",
            "optimize",
            "onnx",
            "caffe",
            "tensorflow",
        ]),
    ),
    ("cli", Allowed::Only(&["pipeline"])),
    ("hostile", Allowed::Any),
    ("tests", Allowed::Any),
    ("xtask", Allowed::Any),
];

/// What the tests of any package may use besides: they build and read real files, and compare with the arithmetic of a
/// simulation.
const ALSO_IN_TESTS: &[&str] = &["proto", "document", "numerics"];

/// Edges that the table does not allow, and packages and rows without a partner.
pub(super) fn problems(metadata: &Metadata) -> Vec<Problem> {
    let packages = &metadata.packages;
    let mut problems: Vec<Problem> = packages.iter().flat_map(|package| of_package(package, packages)).collect();
    for (folder, _) in EDGES {
        if !packages.iter().any(|package| folder_of(package) == *folder) {
            let message = format!("the table of edges has a row for `{folder}`, which is no member; remove the row");
            problems.push(Problem::file("xtask/src/tidy/edges.rs", message));
        }
    }
    problems
}

/// The edges of one package that are not allowed.
fn of_package(package: &Package, packages: &[Package]) -> Vec<Problem> {
    let folder = folder_of(package);
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
        let message = format!("`{folder}` has no row in the table of edges (xtask/src/tidy/edges.rs); add one");
        return vec![Problem::file(manifest(package), message)];
    };
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let Some(used) = packages.iter().find(|member| member.name == dependency.name).map(folder_of) else {
            continue;
        };
        if !is_allowed(allowed, &used, dependency) {
            problems.push(Problem::file(manifest(package), refusal(&folder, allowed, &used, dependency)));
        }
    }
    problems
}

fn is_allowed(allowed: &Allowed, used: &str, dependency: &Dependency) -> bool {
    let in_tests = dependency.kind.as_deref() == Some("dev") && ALSO_IN_TESTS.contains(&used);
    match allowed {
        Allowed::Any => true,
        Allowed::Only(folders) => folders.contains(&used) || in_tests,
    }
}

fn refusal(folder: &str, allowed: &Allowed, used: &str, dependency: &Dependency) -> String {
    let kind = dependency.kind.as_deref().map(|kind| format!("{kind}-")).unwrap_or_default();
    let may = match allowed {
        Allowed::Only([]) => "none of our crates".to_owned(),
        Allowed::Only(folders) => format!("only {}", folders.join(", ")),
        Allowed::Any => "any of our crates".to_owned(),
    };
    format!("`{folder}` must not have the {kind}dependency `{used}`; it may use {may}")
}

/// The name of the folder a package lives in.
fn folder_of(package: &Package) -> String {
    let folder = package.manifest_path.parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The manifest, relative to the root.
fn manifest(package: &Package) -> PathBuf {
    let path = &package.manifest_path;
    path.strip_prefix(workspace::root()).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package in a folder, with dependencies given as (folder, kind).
    fn package(folder: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(folder, kind): &(&str, Option<&str>)| Dependency {
            name: format!("quantize-{folder}"),
            kind: kind.map(str::to_owned),
        };
        Package {
            name: format!("quantize-{folder}"),
            manifest_path: workspace::root().join("crates").join(folder).join("Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn edges_are_judged_by_the_table() {
        let members: Vec<Package> = EDGES.iter().map(|(folder, _)| package(folder, &[])).collect();
        let cases = [
            ("a listed edge", package("ir", &[("numerics", None)]), true),
            ("an edge upwards", package("numerics", &[("ir", None)]), false),
            ("a format crate that runs the graph", package("onnx", &[("exec", None)]), false),
            ("the command line past the facade", package("cli", &[("onnx", None)]), false),
            ("schemas in tests", package("ir", &[("proto", Some("dev"))]), true),
            ("arithmetic in tests", package("kernels", &[("numerics", Some("dev"))]), true),
            ("schemas outside tests", package("ir", &[("proto", None)]), false),
            ("an edge upwards in tests", package("ir", &[("exec", Some("dev"))]), false),
            ("an edge upwards in a build script", package("ir", &[("document", Some("build"))]), false),
            ("anything in the cross-crate tests", package("tests", &[("onnx", None), ("exec", Some("dev"))]), true),
            ("a crate of others", package("ir", &[("no-member", None)]), true),
            ("a crate without a row", package("surprise", &[]), false),
        ];
        for (name, package, expected) in cases {
            let problems = of_package(&package, &members);
            assert_eq!(problems.is_empty(), expected, "{name}: {problems:?}");
        }
    }

    #[test]
    fn a_row_without_a_member_is_a_problem() {
        let packages = EDGES.iter().skip(1).map(|(folder, _)| package(folder, &[])).collect();
        let problems = problems(&Metadata { packages, target_directory: PathBuf::new() });
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
