//! The same bytes for any number of threads and any order of the calibration files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::conformance::context::{Context, files};
use crate::conformance::lite0::Lite0;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Result, at};
use crate::workspace;

/// Numbers of threads, as the command line takes them.
const THREADS: &[&str] = &["1", "2", "7"];

/// Quantizes Lite0 in each way and compares the files.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("determinism", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let folder = context.folder("determinism")?;
    let mut outputs = Vec::new();
    for threads in THREADS {
        let output = folder.join(format!("threads-{threads}.onnx"));
        workspace::output(lite0.quantize(context, &lite0.calib, &output).args(["--threads", threads]))?;
        outputs.push(output);
    }
    let shuffled = shuffled_copy(&lite0.calib, &context.folder("shuffled")?)?;
    let output = folder.join("shuffled.onnx");
    workspace::output(&mut lite0.quantize(context, &shuffled, &output))?;
    outputs.push(output);

    let figures = format!("threads {} and files written in another order", THREADS.join(", "));
    report.record("determinism", Verdict::of(figures, &differing(&outputs)?));
    Ok(())
}

/// Which files are not equal to the first.
fn differing(outputs: &[PathBuf]) -> Result<Vec<String>> {
    let mut unmet = Vec::new();
    let mut first: Option<Vec<u8>> = None;
    for output in outputs {
        let bytes = fs::read(output).map_err(at(output))?;
        match &first {
            Some(first) if *first != bytes => unmet.push(format!("{} differs", output.display())),
            Some(_) => {}
            None => first = Some(bytes),
        }
    }
    Ok(unmet)
}

/// Copies a folder's files in an order that is neither theirs nor its reverse: by a hash of the name.
fn shuffled_copy(from: &Path, to: &Path) -> Result<PathBuf> {
    let mut originals = files(from, |_| true)?;
    originals.sort_by_key(|file| fnv1a(file.file_name().unwrap_or_default().as_encoded_bytes()));
    for file in &originals {
        let copy = to.join(file.file_name().unwrap_or_default());
        fs::copy(file, &copy).map_err(at(file))?;
    }
    Ok(to.to_owned())
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
