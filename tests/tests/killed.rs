//! A process that is killed while it writes leaves the old output or the new one, complete.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use quantize_document::encode::bytes_field;
use quantize_hostile::Draw;
use quantize_tests::fixtures;
use quantize_tests::sandbox::Sandbox;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kills, each at a moment of its own.
const KILLS: usize = 200;

/// `ModelProto.doc_string`
const DOC_STRING: u32 = 6;
/// Bytes of the description that makes writing take most of the time.
const LENGTH: usize = 6 << 20;

/// A model that is long, and differs from others in each of its pages.
fn model(filler: u8) -> Vec<u8> {
    [fixtures::model_bytes("tiny_classifier"), bytes_field(DOC_STRING, &vec![filler; LENGTH])].concat()
}

fn command(sandbox: &Sandbox, name: &str) -> Command {
    let mut command = sandbox.command(&format!("onnx {name} --skip * -q -o out.onnx"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn the_output_is_the_old_or_the_new_one_at_any_moment() {
    let sandbox = Sandbox::new();
    let models = [("a.onnx", model(b'a')), ("b.onnx", model(b'b'))];
    models.iter().for_each(|(name, bytes)| sandbox.write(name, bytes));
    // The first call may build the command.
    let _ = sandbox.command("--version");
    let duration = models.each_ref().map(|(name, _)| {
        let start = Instant::now();
        assert!(command(&sandbox, name).status().unwrap().success());
        start.elapsed()
    });
    let longest = duration[0].max(duration[1]).as_micros() as usize;
    let mut draw = Draw::new(7);
    let (mut old, mut kept, mut replaced) = (1, 0, 0);
    for kill in 0..KILLS {
        let new = 1 - old;
        let mut child = command(&sandbox, models[new].0).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(draw.below(longest + longest / 4) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = sandbox.read("out.onnx");
        if found == models[new].1 {
            (old, replaced) = (new, replaced + 1);
        } else {
            assert!(found == models[old].1, "kill {kill}: {} bytes that are neither", found.len());
            kept += 1;
        }
    }
    println!("{KILLS} kills: {kept} left the old output, {replaced} the new one");
    assert!(kept > 0 && replaced > 0, "kills hit one side only: {kept} old, {replaced} new");
    assert!(command(&sandbox, models[1 - old].0).status().unwrap().success());
    assert!(sandbox.read("out.onnx") == models[1 - old].1);
    let files = sandbox.files();
    assert_eq!(files, ["a.onnx", "b.onnx", "out.onnx"], "a finished run leaves nothing of killed ones behind");
}
