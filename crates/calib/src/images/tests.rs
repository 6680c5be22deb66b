//! Tests of what belongs to a data set of images, and of reading it.

use super::*;
use std::fs;

fn write_image(path: &Path) {
    image::RgbImage::from_pixel(2, 1, image::Rgb([9, 8, 7])).save(path).unwrap();
}

#[test]
fn images_are_listed_by_the_bytes_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a10.png", "a2.PNG", "Z.bmp", "notes.txt", "png", ".png", "\u{e9}.JPeG"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("folder.jpg")).unwrap();
    let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
    assert_eq!(images.names().collect::<Vec<_>>(), ["Z.bmp", "a10.png", "a2.PNG", "b.png", "\u{e9}.JPeG"]);
    assert_eq!((images.len(), images.name(5)), (5, None));
    assert_eq!(images.left_out().collect::<Vec<_>>(), [".png", "notes.txt", "png"]);
}

#[test]
fn images_need_no_particular_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, format) in [("a", "png"), ("b.npy", "bmp"), ("c.tmp", "jpg")] {
        let source = at(&format!("source.{format}"));
        write_image(&source);
        fs::rename(source, at(name)).unwrap();
    }
    fs::write(at("d.csv"), "a,1").unwrap();
    let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
    assert_eq!(images.names().collect::<Vec<_>>(), ["a", "b.npy", "c.tmp"]);
    assert_eq!(images.left_out().collect::<Vec<_>>(), ["d.csv"]);
    assert!((0..3).all(|index| images.load(index).unwrap().image().is_ok()));
}

#[test]
fn arrays_belong_to_a_data_set_that_asks_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 3)}";
    let array = [b"\x93NUMPY\x01\0", [header.len() as u8, 0].as_slice(), header.as_bytes(), &[1, 2, 3]].concat();
    fs::write(folder.path().join("b.npy.0"), array).unwrap();
    fs::write(folder.path().join("c.npy"), "").unwrap();
    write_image(&folder.path().join("a.png"));
    let without = ImageFolder::open(folder.path(), Limits::default()).unwrap();
    assert_eq!((without.len(), without.left_out().len()), (1, 2));
    let samples = ImageFolder::open_with_arrays(folder.path(), Limits::default()).unwrap();
    assert_eq!((samples.len(), samples.left_out().len()), (3, 0));
    assert!(matches!(samples.load(0).unwrap(), RawSample::Image(_)));
    let array = samples.load(1).unwrap();
    assert!(matches!(&array, RawSample::Array(array) if array.data() == [1.0, 2.0, 3.0]));
    let error = array.image().unwrap_err();
    assert!(error.to_string().ends_with("b.npy.0 is an array, an image is needed"), "{error}");
    assert!(matches!(samples.load(2), Err(CalibError::Array { .. })));
}

#[test]
fn images_load_by_number() {
    let folder = tempfile::tempdir().unwrap();
    write_image(&folder.path().join("a.png"));
    fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
    let images = ImageFolder::open(folder.path(), Limits::default()).unwrap();
    let first = images.load(0).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!((first.name(), first.image().unwrap().rgb()), (path("a.png").as_str(), [9, 8, 7, 9, 8, 7].as_slice()));
    let expected = format!("cannot decode image {}: ", path("b.jpg"));
    assert!(images.load(1).unwrap_err().to_string().starts_with(&expected));
    assert!(matches!(images.load(2), Err(CalibError::NoSuchImage { index: 2, len: 2, .. })));
}

#[test]
fn one_image_file_is_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("only.bmp");
    write_image(&path);
    let images = ImageFolder::open(&path, Limits::default()).unwrap();
    assert_eq!((images.len(), images.name(0), images.left_out().len()), (1, Some("only.bmp"), 0));
    assert_eq!(images.load(0).unwrap().name(), path.display().to_string());
}

#[test]
fn long_files_are_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jpg"), [0; 100]).unwrap();
    let limits = Limits { max_file_bytes: 99, ..Limits::default() };
    let error = ImageFolder::open(folder.path(), limits).unwrap().load(0).unwrap_err();
    assert!(matches!(error, CalibError::FileTooLarge { bytes: 100, limit: 99, .. }));
}

#[test]
fn paths_without_images_are_errors_that_say_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, file) = (folder.path().join("empty"), folder.path().join("labels.csv"));
    fs::create_dir(&empty).unwrap();
    fs::write(&file, "").unwrap();
    let cases = [
        ("missing", folder.path().join("none"), "none does not exist"),
        ("other file", file, "labels.csv is neither a folder nor a JPEG, PNG or BMP file"),
        ("empty folder", empty, "empty, found 0 other files and 0 folders"),
        ("only others", folder.path().to_owned(), ", found 1 other file and 1 folder"),
    ];
    for (name, path, ending) in cases {
        let error = ImageFolder::open(&path, Limits::default()).unwrap_err();
        assert!(error.to_string().ends_with(ending), "{name}: {error}");
        assert!(error.hint().is_some(), "{name}");
    }
}
