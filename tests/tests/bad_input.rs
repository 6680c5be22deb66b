//! What bad input gets: an error that names file, place and cause, a hint where something can be done, exit code 1, and
//! an older output left as it was.
#![allow(clippy::unwrap_used)]

use quantize_proto::onnx::ModelProto;
use quantize_proto::onnx::tensor_shape_proto::dimension::Value as Extent;
use quantize_proto::onnx::type_proto::Value as Type;
use quantize_tests::models::{edited, graph, initializer, node};
use quantize_tests::sandbox::{DATA, Outcome, Sandbox};
use quantize_tests::{fixtures, skipped};
use std::fs;

/// What stands at the output's place before each run.
const OLD: &[u8] = b"an older output";

/// Runs a command that writes to `out.onnx` and `plan.json`, and insists that it fails and touches neither.
fn refused(sandbox: &Sandbox, line: &str) -> String {
    sandbox.write("out.onnx", OLD);
    sandbox.write("plan.json", OLD);
    let before = sandbox.files();
    let Outcome { code, stdout, stderr } = sandbox.quantize(&format!("{line} -o out.onnx --emit-plan plan.json"));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{line}: {stderr}");
    assert!(sandbox.read("out.onnx") == OLD && sandbox.read("plan.json") == OLD, "{line}: an output was touched");
    assert_eq!(sandbox.files(), before, "{line}: files were left behind");
    stderr
}

/// What a model gets.
fn refused_model(bytes: &[u8]) -> String {
    let sandbox = Sandbox::new();
    sandbox.write("m.onnx", bytes);
    refused(&sandbox, &format!("onnx m.onnx {DATA}"))
}

type Edit = fn(&mut ModelProto);

/// Name of the case, what was done to `tiny_classifier`, and the message.
const BROKEN_MODELS: &[(&str, Edit, &str)] = &[
    (
        "cycle",
        |m| node(m, "conv1").input[0] = "depthwise".into(),
        "error: m.onnx: nodes `conv1`, `bn1`, `relu1`, `depthwise` form a cycle\n\n\
         hint: the exporter wrote a graph that cannot be run; check it with the ONNX checker\n",
    ),
    (
        "missing initializer",
        |m| graph(m).initializer.retain(|i| i.name() != "conv1.weight"),
        "error: m.onnx: node `conv1`: reads `conv1.weight`, which nothing defines\n\n\
         hint: the exporter left out an initializer; export the model with its weights inside the file\n",
    ),
    (
        "initializer shorter than its dimensions",
        |m| initializer(m, "conv1.weight").raw_data.as_mut().unwrap().truncate(431 * 4),
        "error: m.onnx: initializer `conv1.weight` declares dimensions [16, 3, 3, 3], 432 elements, but holds \
         431\n\n\
         hint: the file is damaged or was edited; export the model again\n",
    ),
    (
        "initializer longer than its dimensions",
        |m| initializer(m, "fc.bias").raw_data.as_mut().unwrap().extend([0; 4]),
        "error: m.onnx: initializer `fc.bias` declares dimensions [4], 4 elements, but holds 5\n\n\
         hint: the file is damaged or was edited; export the model again\n",
    ),
    (
        "product of dimensions overflows",
        |m| initializer(m, "conv1.weight").dims = vec![1 << 40, 1 << 40, 3, 3],
        "error: m.onnx: initializer `conv1.weight`: has too many elements: [1099511627776, 1099511627776, 3, 3]\n",
    ),
    (
        "negative dimension",
        |m| initializer(m, "conv1.weight").dims = vec![16, -3, 3, 3],
        "error: m.onnx: initializer `conv1.weight`: has a negative dimension: [16, -3, 3, 3]\n",
    ),
    (
        "wrong number of batch normalization factors",
        |m| {
            let gamma = initializer(m, "bn1.gamma");
            gamma.dims = vec![15];
            gamma.raw_data.as_mut().unwrap().truncate(15 * 4);
        },
        "error: m.onnx: node `bn1` (BatchNormalization): operand 1 (`bn1.gamma`) has 15 elements for 16 channels\n",
    ),
    (
        "weight is not a number",
        |m| set_element(m, "conv2.weight", 3 * 144, f32::NAN),
        "error: m.onnx: node `conv2`, operand `conv2.weight`: weight channel 3 contains a NaN or infinite value\n\n\
         hint: export the model again, or keep the node in fp32 with `--skip 'conv2'`\n",
    ),
    (
        "weight is infinite",
        |m| set_element(m, "conv2.weight", 4 * 144, f32::NEG_INFINITY),
        "error: m.onnx: node `conv2`, operand `conv2.weight`: weight channel 4 contains a NaN or infinite value\n\n\
         hint: export the model again, or keep the node in fp32 with `--skip 'conv2'`\n",
    ),
    (
        "four channels",
        |m| set_channels(m, 4),
        "error: image `images/disc_0.png`: preprocessing gives [1, 3, 16, 16], but model input `input` takes [1, 4, 16, 16]\n\n\
         hint: choose `--channels gray` for one channel, `rgb` or `bgr` for three, and check `--layout`\n",
    ),
    ("no output", |m| graph(m).output.clear(), "error: m.onnx: the graph has no outputs\n"),
    (
        "undefined output",
        |m| graph(m).output[0].name = Some("nothing".into()),
        "error: m.onnx: output `nothing`: nothing computes it\n",
    ),
    (
        "value defined twice",
        |m| node(m, "bn1").output[0] = "conv1".into(),
        "error: m.onnx: node `bn1`: defines `conv1`, which is defined before\n",
    ),
    ("no graph", |m| m.graph = None, "error: m.onnx: it has no graph\n\nhint: is this an ONNX model?\n"),
    (
        "no operator set",
        |m| m.opset_import.clear(),
        "error: m.onnx: it imports no operator set\n\n\
         hint: is this an ONNX model? models of IR version 1 and 2 are not supported\n",
    ),
];

fn set_element(model: &mut ModelProto, name: &str, index: usize, value: f32) {
    let raw = initializer(model, name).raw_data.as_mut().unwrap();
    raw[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

fn set_channels(model: &mut ModelProto, channels: i64) {
    let input = graph(model).input[0].r#type.as_mut().unwrap();
    let Some(Type::TensorType(tensor)) = input.value.as_mut() else { panic!("no tensor") };
    tensor.shape.as_mut().unwrap().dim[1].value = Some(Extent::DimValue(channels));
}

#[test]
fn broken_models() {
    let said: Vec<(&str, String)> =
        BROKEN_MODELS.iter().map(|(case, edit, _)| (*case, refused_model(&edited("tiny_classifier", edit)))).collect();
    let expected: Vec<(&str, String)> = BROKEN_MODELS.iter().map(|(case, _, text)| (*case, (*text).into())).collect();
    pretty_equal(&said, &expected);
}

/// Compares case by case, so that a failure shows the texts that differ and no others.
fn pretty_equal(said: &[(&str, String)], expected: &[(&str, String)]) {
    let differing: Vec<String> = said
        .iter()
        .zip(expected)
        .filter(|(s, e)| s != e)
        .map(|((case, said), (_, expected))| format!("{case}\n--- said\n{said}--- expected\n{expected}"))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn files_that_are_no_models() {
    let whole = fixtures::model_bytes("tiny_classifier");
    let cases: [(&str, &[u8], &str); 3] = [
        ("empty", b"", "error: m.onnx: the file is empty\n\nhint: is this an ONNX model?\n"),
        (
            "text",
            b"hello\n",
            "error: m.onnx: at byte 2, reading the tag of a field: group 13 is closed but was not opened\n\n\
             hint: the file is damaged or of another format\n",
        ),
        (
            "cut off",
            &whole[..3000],
            "error: m.onnx: at byte 19, reading the contents of field 7: bytes needed: 25209, left: 2981\n\n\
             hint: the file is cut off or of another format; copy or download it once more\n",
        ),
    ];
    let said: Vec<_> = cases.iter().map(|(case, bytes, _)| (*case, refused_model(bytes))).collect();
    let expected: Vec<_> = cases.iter().map(|(case, _, text)| (*case, (*text).to_owned())).collect();
    pretty_equal(&said, &expected);
    let sandbox = Sandbox::new();
    let stderr =
        "error: cannot read m.onnx: No such file or directory (os error 2)\n\nhint: check the spelling of the path\n";
    assert_eq!(refused(&sandbox, &format!("onnx m.onnx {DATA}")), stderr);
}

/// Options, and the message for `tiny_classifier` with the images of the fixtures.
const BAD_DATA: &[(&str, &str)] = &[
    (
        "--calib empty",
        "error: no JPEG, PNG, BMP, .npy, .npz or .pb file in empty, found 1 other file and 0 folders\n\n\
         hint: name a folder that holds JPEG, PNG, BMP, .npy, .npz or .pb files, or one such file\n",
    ),
    (
        "--calib nested",
        "error: no JPEG, PNG, BMP, .npy, .npz or .pb file in nested, found 0 other files and 1 folder\n\n\
         hint: sub-folders are not searched; name one of them\n",
    ),
    (
        "--calib nowhere",
        "error: data set nowhere does not exist\n\n\
         hint: name a folder that holds JPEG, PNG, BMP, .npy, .npz or .pb files, or one such file\n",
    ),
    (
        "--calib empty/readme.txt",
        "error: data set empty/readme.txt is neither a folder nor a JPEG, PNG, BMP, .npy, .npz or .pb file\n\n\
         hint: name a folder that holds JPEG, PNG, BMP, .npy, .npz or .pb files, or one such file\n",
    ),
    (
        "--calib corrupt",
        "error: cannot decode image corrupt/sky_0.png: the file is cut short\n\n\
         hint: remove the file from the folder or save it again as PNG or JPEG\n",
    ),
    (
        "--calib images --channels gray",
        "error: image `images/disc_0.png`: preprocessing gives [1, 1, 16, 16], but model input `input` takes [1, 3, 16, 16]\n\n\
         hint: choose `--channels gray` for one channel, `rgb` or `bgr` for three, and check `--layout`\n",
    ),
    (
        "--calib images --crop 12",
        "error: image `images/disc_0.png`: preprocessing gives [1, 3, 12, 12], but model input `input` takes [1, 3, 16, 16]\n\n\
         hint: set `--crop` or `--resize` to the size of the input\n",
    ),
    (
        "--calib images --mean 1,2",
        "error: mean has 2 values for 3 channels\n\nhint: give one value for all channels or one value per channel\n",
    ),
    (
        "--calib images --scale 0",
        "error: scale value 0 is not usable\n\n\
         hint: values must be finite, and a scale must not be zero; x = (pixel - mean) * scale\n",
    ),
    (
        "--calib images --skip nope",
        "error: `--skip nope` matches no node of the model\n\n\
         hint: nodes of this model: `conv1`, `bn1`, `relu1`, `depthwise`, `bn2`, `clip`, `pointwise`, `bn3`, …\n",
    ),
    (
        "--calib images --skip * --skip poool",
        "error: `--skip poool` matches no node of the model\n\nhint: nodes of this model: `pool`, …\n",
    ),
];

#[test]
fn bad_data() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    sandbox.write("empty/readme.txt", "no image");
    sandbox.copy_images("nested/images", |_| true);
    sandbox.copy_images("corrupt", |_| true);
    sandbox.write("corrupt/sky_0.png", &sandbox.read("images/sky_0.png")[..60]);
    let line = |options: &str| format!("onnx tiny_classifier.onnx {options}");
    let said: Vec<_> = BAD_DATA.iter().map(|(options, _)| (*options, refused(&sandbox, &line(options)))).collect();
    let expected: Vec<_> = BAD_DATA.iter().map(|(options, text)| (*options, (*text).to_owned())).collect();
    pretty_equal(&said, &expected);
}

/// The content of `labels.csv`, and the message of an evaluation of `tiny_classifier`.
const BAD_LABELS: &[(&str, &str)] = &[
    ("", "error: label file labels.csv holds no label\n\nhint: each line is `file name,class number`\n"),
    (
        "image,label\nsky_0.png,0\nfoliage_0.png,1\n",
        "error: 10 of 12 samples have no label in labels.csv, first disc_0.png, disc_1.png, disc_2.png\n\n\
         hint: add a line `file name,class number` for each sample\n",
    ),
    (
        "image,label\nsky_0.png,blue\n",
        "error: labels.csv:2: label \"blue\" of sky_0.png is not a non-negative integer\n\n\
         hint: each line is `file name,class number`\n",
    ),
];

#[test]
fn bad_labels() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    let line = format!("eval tiny_classifier.onnx {}", DATA.replace("--calib", "--labels labels.csv --data"));
    let evaluate = |labels: &str| {
        sandbox.write("labels.csv", labels);
        let Outcome { code, stdout, stderr } = sandbox.quantize(&line);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{labels}: {stderr}");
        stderr
    };
    let mut said: Vec<_> = BAD_LABELS.iter().map(|(labels, _)| (*labels, evaluate(labels))).collect();
    let mut expected: Vec<_> = BAD_LABELS.iter().map(|(labels, text)| (*labels, (*text).to_owned())).collect();
    let labels = String::from_utf8(sandbox.read("images/labels.csv")).unwrap().replace("disc_0.png,3", "disc_0.png,4");
    said.push(("out of range", evaluate(&labels)));
    let text = "error: label 4 of image `disc_0.png` is not a class of the model, whose output `logits` has 4 scores\n\n\
                hint: labels count from 0, in the order of the model's outputs\n";
    expected.push(("out of range", text.to_owned()));
    pretty_equal(&said, &expected);
}

#[test]
fn a_label_file_that_does_not_exist() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    let line = format!("eval tiny_classifier.onnx {}", DATA.replace("--calib", "--labels nowhere.csv --data"));
    let outcome = sandbox.quantize(&line);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.starts_with("error: cannot read nowhere.csv: "), "{}", outcome.stderr);
}

#[test]
fn a_model_without_class_scores() {
    let sandbox = Sandbox::new();
    let spread = |m: &mut ModelProto| {
        let graph = graph(m);
        graph.node.retain(|node| !["pool", "flatten", "fc"].contains(&node.name()));
        graph.output[0].name = Some("relu2".into());
        graph.output[0].r#type = None;
    };
    sandbox.write("m.onnx", edited("tiny_classifier", spread));
    let data = DATA.replace("--calib", "--labels images/labels.csv --data");
    let outcome = sandbox.quantize(&format!("eval m.onnx {data}"));
    assert_eq!(outcome.code, Some(1));
    let error = "error: m.onnx: no output is a vector of class scores\n\n\
                 hint: outputs: `relu2` [1, 32, 4, 4]; scores have shape [1, classes]\n";
    assert_eq!(outcome.stderr, error);
}

#[test]
fn outputs_that_cannot_be_written() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    let cases = [
        (
            "-o nowhere/out.onnx",
            "error: cannot write nowhere/out.onnx: ",
            "\n\nhint: create the folder nowhere first\n",
        ),
        (
            "-o images",
            "error: cannot write images: it is a folder, not a regular file\n",
            "name a file inside the folder\n",
        ),
        ("-o a.onnx --emit-plan a.onnx", "error: cannot write a.onnx: two outputs have this path\n", ""),
        (
            "-o a.onnx --emit-plan nowhere/plan.json",
            "error: cannot write nowhere/plan.json: ",
            "create the folder nowhere first\n",
        ),
    ];
    for (options, start, end) in cases {
        let outcome = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} {options}"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{options}");
        assert!(outcome.stderr.starts_with(start) && outcome.stderr.ends_with(end), "{options}: {}", outcome.stderr);
        assert_eq!(sandbox.files(), ["tiny_classifier.onnx"], "{options}: all outputs or none");
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    sandbox.write("locked/out.onnx", OLD);
    let permit = |mode| fs::set_permissions(sandbox.path("locked"), fs::Permissions::from_mode(mode)).unwrap();
    permit(0o555);
    if sandbox.can_write_to("locked") {
        return skipped("this user may write to read-only folders");
    }
    let outcome = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -o locked/out.onnx"));
    permit(0o755);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.starts_with("error: cannot write locked/out.onnx: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("\nhint: "), "{}", outcome.stderr);
    assert!(sandbox.read("locked/out.onnx") == OLD);
}
