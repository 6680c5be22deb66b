//! Where the command is. Cargo names binaries to tests of their own package only, so it is built next to the running
//! test: same folder, same profile. That is nothing to do if it is fresh, and never a stale one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `quantize`.
#[must_use]
pub fn quantize() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("quantize-cli", "quantize"))
}

/// The path of `xtask`, which makes networks that are too large to keep.
#[must_use]
pub fn xtask() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("xtask", "xtask"))
}

/// Builds a binary of a package and says where it is.
fn built(package: &str, name: &str) -> PathBuf {
    let folder = profile_folder();
    build(package, &folder);
    let path = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "cargo did not build {}", path.display());
    path
}

/// `target/PROFILE` of the running test `target/PROFILE/deps/NAME`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("the path of the test");
    test.ancestors().nth(2).expect("the folder of the profile").to_owned()
}

fn build(package: &str, folder: &Path) {
    let name = folder.file_name().and_then(|name| name.to_str()).expect("the name of the profile");
    let profile = if name == "debug" { "dev" } else { name };
    let target = folder.parent().expect("the target folder");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&built.stderr));
}
