//! Tests of atomic output: failures, permissions, links, leftovers.

use std::path::Path;
use std::{env, fs, io};

use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn commit_bytes(files: &[(&Path, &[u8])]) -> Result<Vec<PathBuf>, DocumentError> {
    let mut outputs = OutputSet::new();
    for (path, bytes) in files {
        outputs.add_bytes(*path, bytes.to_vec());
    }
    outputs.commit()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn missing_folders_are_made_only_on_request() {
    let folder = folder();
    let path = folder.path().join("a/b/net.json");
    let outputs = |make: bool, path: &Path| {
        let mut outputs = OutputSet::new();
        outputs.add_bytes(path, b"{}".to_vec());
        if make {
            outputs.make_folders();
        }
        outputs.commit()
    };
    assert!(matches!(outputs(false, &path), Err(DocumentError::OutputFolderMissing { .. })));
    assert_eq!(outputs(true, &path).unwrap(), std::slice::from_ref(&path));
    let blocked = path.join("c/net.json");
    let error = outputs(true, &blocked).unwrap_err();
    assert!(matches!(error, DocumentError::OutputFolder { .. }) && error.hint().is_some(), "{error}");
}

#[test]
fn creates_and_replaces_one_file() {
    let folder = folder();
    let path = folder.path().join("net.onnx");
    for contents in [&b"first"[..], b"", b"third"] {
        assert_eq!(commit_bytes(&[(&path, contents)]).unwrap(), std::slice::from_ref(&path));
        assert_eq!(fs::read(&path).unwrap(), contents);
        assert_eq!(names(folder.path()), ["net.onnx"]);
    }
}

#[test]
fn a_set_replaces_all_its_files() {
    let folder = folder();
    let [weights, topology] = ["net.bin", "net.txt"].map(|name| folder.path().join(name));
    for round in [b"1", b"2"] {
        let paths = commit_bytes(&[(&weights, round), (&topology, round)]).unwrap();
        assert_eq!(paths, [weights.clone(), topology.clone()]);
        assert_eq!(fs::read(&weights).unwrap(), round);
        assert_eq!(fs::read(&topology).unwrap(), round);
        assert_eq!(names(folder.path()), ["net.bin", "net.txt"]);
    }
}

#[test]
fn the_writer_may_read_the_file_it_replaces() {
    let folder = folder();
    let path = folder.path().join("net.onnx");
    fs::write(&path, b"old").unwrap();
    let mut outputs = OutputSet::new();
    outputs.add_writer(&path, |out| {
        out.write_all(&fs::read(&path)?)?;
        out.write_all(b" and new")
    });
    outputs.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old and new");
}

#[test]
fn a_failed_writer_leaves_every_old_file() {
    let folder = folder();
    let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
    fs::write(&first, b"old a").unwrap();
    fs::write(&second, b"old b").unwrap();
    let mut outputs = OutputSet::new();
    outputs.add_bytes(&first, b"new a".as_slice());
    outputs.add_writer(&second, |out| {
        out.write_all(b"half of it")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    let error = outputs.commit().expect_err("the writer fails");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert_eq!(error.path(), Some(second.as_path()));
    assert!(error.hint().unwrap().contains("free some space"), "{error}");
    assert_eq!(fs::read(&first).unwrap(), b"old a");
    assert_eq!(fs::read(&second).unwrap(), b"old b");
    assert_eq!(names(folder.path()), ["a", "b"]);
}

#[test]
fn a_failed_rename_puts_the_old_set_back() {
    let folder = folder();
    let [weights, obstacle, topology] = ["weights", "obstacle", "topology"].map(|name| folder.path().join(name));
    fs::write(&weights, b"old weights").unwrap();
    fs::write(&topology, b"old topology").unwrap();
    let staged: Vec<Temporary> = [&weights, &obstacle, &topology]
        .map(|path| Output { path: path.clone(), content: Content::Bytes(b"new"[..].into()) })
        .into_iter()
        .map(|output| output.stage().unwrap())
        .collect();
    // The second temporary vanishes, so its rename fails after the first succeeded.
    let prefix = ".obstacle.";
    let vanished = names(folder.path()).into_iter().find(|name| name.starts_with(prefix)).unwrap();
    fs::remove_file(folder.path().join(vanished)).unwrap();

    let error = publish::publish(staged).expect_err("the rename fails");
    assert_eq!(error.path(), Some(obstacle.as_path()));
    assert_eq!(fs::read(&weights).unwrap(), b"old weights");
    assert_eq!(fs::read(&topology).unwrap(), b"old topology");
    assert_eq!(names(folder.path()), ["topology", "weights"]);
}

#[test]
fn a_failed_rename_of_the_last_takes_new_files_back() {
    let folder = folder();
    let [weights, topology] = ["weights", "topology"].map(|name| folder.path().join(name));
    fs::write(&topology, b"old topology").unwrap();
    let staged: Vec<Temporary> = [&weights, &topology]
        .map(|path| Output { path: path.clone(), content: Content::Bytes(b"new"[..].into()) })
        .into_iter()
        .map(|output| output.stage().unwrap())
        .collect();
    // The last temporary vanishes, so its rename fails after the first succeeded.
    let vanished = names(folder.path()).into_iter().find(|name| name.starts_with(".topology.")).unwrap();
    fs::remove_file(folder.path().join(vanished)).unwrap();
    publish::publish(staged).expect_err("the rename fails");
    assert_eq!(fs::read(&topology).unwrap(), b"old topology");
    assert_eq!(names(folder.path()), ["topology"]);
}

#[test]
fn what_must_not_be_replaced_is_refused() {
    let folder = folder();
    let protected = folder.path().join("protected");
    fs::write(&protected, b"keep").unwrap();
    let mut permissions = fs::metadata(&protected).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&protected, permissions).unwrap();
    let cases = [
        (folder.path().to_path_buf(), ErrorKind::Caller, "it is a folder"),
        (folder.path().join("new/"), ErrorKind::Caller, "names no file"),
        (PathBuf::new(), ErrorKind::Caller, "names no file"),
        (PathBuf::from("/dev/null"), ErrorKind::Caller, "it is a device"),
        (protected.clone(), ErrorKind::Environment, "read-only"),
    ];
    for (path, kind, message) in cases {
        let error = commit_bytes(&[(&path, b"new")]).expect_err(message);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    assert_eq!(fs::read(&protected).unwrap(), b"keep");
    assert_eq!(names(folder.path()), ["protected"]);
}

#[test]
fn one_path_twice_is_refused() {
    let folder = folder();
    let path = folder.path().join("net.onnx");
    let same = folder.path().join(".").join("net.onnx");
    let error = commit_bytes(&[(&path, b"1"), (&same, b"2")]).expect_err("same path");
    assert!(matches!(error, DocumentError::DuplicateOutput { .. }), "{error}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn folders_that_cannot_hold_the_file_are_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, b"x").unwrap();
    let cases = [
        (folder.path().join("missing").join("net.onnx"), "create the folder"),
        (file.join("net.onnx"), "is not a folder"),
        (folder.path().join("n".repeat(300)), "shorter file name"),
    ];
    for (path, hint) in cases {
        let error = commit_bytes(&[(&path, b"new")]).expect_err(hint);
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
        assert_eq!(error.path(), Some(path.as_path()));
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert_eq!(names(folder.path()), ["file"]);
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = folder().path().join("missing");
    let path = folder.join("net.onnx");
    let error = commit_bytes(&[(&path, b"new")]).expect_err("no folder");
    let (path, folder) = (path.display(), folder.display());
    assert_eq!(error.to_string(), format!("cannot write {path}: the folder {folder} does not exist"));
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), b"").is_ok() {
        // Past the macros, whose output the test harness hides.
        let _ = writeln!(std::io::stderr(), "skipped: this user may write to read-only folders");
        return;
    }
    let error = commit_bytes(&[(&locked.join("net.onnx"), b"new")]).expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(error.hint().unwrap().contains("may create files in"), "{error}");
}

#[cfg(unix)]
#[test]
fn permissions_are_those_of_the_old_file_or_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let [ordinary, path] = ["ordinary", "net.onnx"].map(|name| folder.path().join(name));
    fs::write(&ordinary, b"").unwrap();
    commit_bytes(&[(&path, b"1")]).unwrap();
    assert_eq!(mode(&path), mode(&ordinary));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    commit_bytes(&[(&path, b"2")]).unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_and_its_target_kept() {
    let folder = folder();
    let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
    fs::write(&target, b"kept").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    commit_bytes(&[(&link, b"new")]).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert_eq!(fs::read(&link).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let folder = folder();
    let leftover = folder.path().join(".net.onnx.abcDEF012345.quantize-tmp");
    fs::write(&leftover, b"half").unwrap();
    commit_bytes(&[(&folder.path().join("net.onnx"), b"new")]).unwrap();
    assert_eq!(names(folder.path()), ["net.onnx"]);
}

const KILLED_FOLDER: &str = "QUANTIZE_TEST_KILLED_FOLDER";

/// Body of the process that the next test kills; does nothing on its own.
#[test]
fn rewrite_a_pair_until_killed() {
    let Some(folder) = env::var_os(KILLED_FOLDER).map(PathBuf::from) else { return };
    for generation in 0u64.. {
        let contents = generation.to_string().repeat(2000);
        let files = [folder.join("weights"), folder.join("topology")];
        commit_bytes(&[(&files[0], contents.as_bytes()), (&files[1], contents.as_bytes())]).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_no_mixed_pair() {
    let folder = folder();
    let [weights, topology] = ["weights", "topology"].map(|name| folder.path().join(name));
    let mut complete = 0;
    for delay in 0..40 {
        let mut child = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "output::tests::rewrite_a_pair_until_killed"])
            .env(KILLED_FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(10_000 + 613 * delay));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(topology) = fs::read(&topology) {
            assert_eq!(fs::read(&weights).unwrap(), topology, "round {delay}");
            complete += 1;
        }
    }
    assert!(complete > 0, "no round wrote a pair");
    commit_bytes(&[(&weights, b"end"), (&topology, b"end")]).unwrap();
    assert_eq!(names(folder.path()), ["topology", "weights"]);
}
