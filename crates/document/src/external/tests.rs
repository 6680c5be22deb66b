//! What a location may and may not name.

use super::*;
use tempfile::TempDir;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("model/parts")).unwrap();
    fs::write(folder.path().join("secret"), b"secret").unwrap();
    fs::write(folder.path().join("model/weights"), b"0123456789").unwrap();
    fs::write(folder.path().join("model/parts/more"), b"abc").unwrap();
    folder
}

fn range(location: &str, offset: u64, length: Option<u64>) -> ExternalRange {
    ExternalRange { location: location.into(), offset, length }
}

fn read(folder: &TempDir, range: &ExternalRange) -> Result<Vec<u8>, ExternalError> {
    let mut part = range.open(&folder.path().join("model/net.onnx"))?;
    let mut bytes = vec![0; part.length() as usize];
    part.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn stretches_are_read_from_files_in_the_folder_and_below() {
    let folder = folder();
    let cases = [
        (range("weights", 0, None), "0123456789"),
        (range("weights", 3, Some(4)), "3456"),
        (range("./weights", 8, None), "89"),
        (range("parts/more", 0, Some(3)), "abc"),
        (range("weights", 10, None), ""),
    ];
    for (range, expected) in cases {
        assert_eq!(read(&folder, &range).unwrap(), expected.as_bytes(), "{range:?}");
    }
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    let folder = folder();
    let absolute = folder.path().join("secret").display().to_string();
    let cases = [
        ("", "its location is empty"),
        (".", "its location is empty"),
        (&*absolute, "is an absolute path"),
        ("/etc/passwd", "is an absolute path"),
        ("C:\\secret", "is an absolute path"),
        ("\\secret", "is an absolute path"),
        ("../secret", "leaves the model's folder by `..`"),
        ("parts/../weights", "leaves the model's folder by `..`"),
        ("parts\\..\\weights", "leaves the model's folder by `..`"),
        ("parts", "is a folder, not a regular file"),
        ("weights/.", "cannot read `weights/.`"),
        ("nothing", "cannot read `nothing`"),
        ("nul\0byte", "cannot read"),
    ];
    for (location, expected) in cases {
        let error = read(&folder, &range(location, 0, None)).unwrap_err();
        assert!(error.to_string().contains(expected), "{location}: {error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn stretches_beyond_the_end_are_refused() {
    let folder = folder();
    let cases = [
        (range("weights", 0, Some(11)), "`weights` has 10 bytes, none from 0 to 11"),
        (range("weights", 11, None), "`weights` has 10 bytes, none from 11 to 11"),
        (range("weights", u64::MAX, Some(u64::MAX)), "none from 18446744073709551615 to 36893488147419103230"),
    ];
    for (range, expected) in cases {
        let error = read(&folder, &range).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn links_stay_inside_and_pipes_and_second_names_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let model = folder.path().join("model");
    symlink("weights", model.join("inside")).unwrap();
    symlink("../secret", model.join("outside")).unwrap();
    symlink("..", model.join("up")).unwrap();
    symlink("loop", model.join("loop")).unwrap();
    fs::hard_link(folder.path().join("secret"), model.join("second")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(model.join("pipe")).status().unwrap().success());
    assert_eq!(read(&folder, &range("inside", 0, Some(2))).unwrap(), b"01");
    let cases = [
        ("outside", "leads out of the model's folder, to "),
        ("up/secret", "leads out of the model's folder, to "),
        ("loop", "cannot read `loop`"),
        ("second", "has 2 names (hard links)"),
        ("pipe", "is a pipe, not a regular file"),
    ];
    for (location, expected) in cases {
        let error = read(&folder, &range(location, 0, None)).unwrap_err().to_string();
        assert!(error.contains(expected), "{location}: {error}");
    }
}

#[test]
fn folders_are_compared_by_what_they_are() {
    let folder = folder();
    let model = folder.path().join("model/net.onnx");
    assert!(same_folder(&model, &folder.path().join("model/parts/../out.onnx")));
    assert!(!same_folder(&model, &folder.path().join("out.onnx")));
    assert!(!same_folder(&model, &folder.path().join("missing/out.onnx")));
}
