//! `quantize caffe` with what users have: odd weights, odd images, odd files, and requests that cannot be met.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{Entry, QuantizationFile};
use quantize_tests::pictures::{gray, gray_in_colour, plain, with_alpha, write};
use quantize_tests::quantcfg::read;
use quantize_tests::sandbox::{Outcome, Sandbox};
use quantize_tests::small_net::SmallNet;
use serde_json::Value as Json;

/// The command on the network of a folder.
fn quantize(sandbox: &Sandbox, options: &str) -> Outcome {
    sandbox.quantize(&format!("caffe net.prototxt net.caffemodel -o out.json {options}"))
}

/// The file that it writes.
fn quantized(sandbox: &Sandbox, options: &str) -> QuantizationFile {
    assert_eq!(quantize(sandbox, options).succeeded().stdout, "out.json\n");
    read(&sandbox.path("out.json"))
}

/// An emulation of what was written, on the images.
fn emulated(sandbox: &Sandbox) -> Json {
    let line = "caffe emulate net.prototxt net.caffemodel --quantcfg out.json --data images --output-format json";
    serde_json::from_str(&sandbox.quantize(line).succeeded().stdout).unwrap()
}

fn entry<'f>(file: &'f QuantizationFile, name: &str) -> &'f Entry {
    file.entry(name).unwrap_or_else(|| panic!("no entry `{name}`"))
}

#[test]
fn a_channel_of_zero_weights_has_a_multiplier_of_zero() {
    let mut net = SmallNet::new();
    net.blobs("conv1")[0].1[27..54].fill(0.0);
    let sandbox = net.sandbox();
    for options in ["--calib images", "--calib images --preset compat --flavor v3", "--calib images --power-of-two"] {
        let file = quantized(&sandbox, options);
        let conv = entry(&file, "conv1");
        if !options.contains("power") {
            assert_eq!(conv.th_params.as_ref().unwrap()[1], 0.0, "{options}");
            assert_eq!((conv.scale[1], conv.postscale_shift[1]), (0, 0), "{options}");
        }
        assert!(conv.scale[0] > 0, "{options}");
        assert_eq!(emulated(&sandbox)["samples"], 12, "{options}");
    }
}

/// A network whose first activation never passes anything on.
fn dead() -> Sandbox {
    let mut net = SmallNet::new();
    net.blobs("scale1")[1].1.fill(-1000.0);
    net.sandbox()
}

#[test]
fn a_dead_relu_has_the_threshold_of_what_it_is_added_to() {
    let sandbox = dead();
    let outcome = quantize(&sandbox, "--calib images").succeeded();
    assert!(outcome.stderr.contains("warning: activation `conv1`: every value is zero\n"), "{}", outcome.stderr);
    let file = read(&sandbox.path("out.json"));
    assert_eq!(entry(&file, "conv1").th_layer_out, entry(&file, "conv2").th_layer_out);
    assert!(entry(&file, "conv1").th_layer_out > 0.0);
    assert_eq!(emulated(&sandbox)["samples"], 12);
}

#[test]
fn a_dead_relu_has_multipliers_of_zero_in_the_originals_pass() {
    let sandbox = dead();
    let outcome = quantize(&sandbox, "--calib images --preset compat").succeeded();
    let warning = "warning: the calibration samples leave `conv1` at zero; multipliers are 0\n";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
    let file = read(&sandbox.path("out.json"));
    let conv = entry(&file, "conv1");
    assert_eq!((conv.th_layer_out, &conv.scale), (0.0, &vec![0; 4]));
    assert_eq!(emulated(&sandbox)["samples"], 12);
}

#[test]
fn constant_and_tiny_images_calibrate() {
    let sandbox = SmallNet::new().sandbox();
    write(&sandbox, "constant/one.png", &plain(40, 30, [200, 10, 90]));
    write(&sandbox, "tiny/one.png", &plain(1, 1, [255, 0, 7]));
    write(&sandbox, "tiny/two.png", &plain(1, 1, [0, 1, 2]));
    write(&sandbox, "black/one.png", &plain(16, 16, [0, 0, 0]));
    for (folder, images) in [("constant", 1), ("tiny", 2), ("black", 1)] {
        for options in ["", "--range kl", "--preset compat"] {
            let size = format!("--calib {folder} --calib-size {images} {options}");
            let file = quantized(&sandbox, &size);
            assert!(file.network.iter().all(|entry| entry.th_layer_in > 0.0), "{size}");
        }
    }
}

#[test]
fn the_input_has_the_threshold_of_what_images_can_be_unless_the_original_is_asked_for() {
    let sandbox = SmallNet::new().sandbox();
    write(&sandbox, "black/one.png", &plain(16, 16, [0, 0, 0]));
    // White minus the mean of blue, and the mean of red minus black.
    for (options, threshold) in [("", 151.0), ("--preset compat --calib-size 1 --input-threshold max", 123.0)] {
        let file = quantized(&sandbox, &format!("--calib black {options}"));
        assert_eq!(entry(&file, "conv1").th_layer_in, threshold, "{options}");
    }
}

#[test]
fn one_image_is_enough() {
    let sandbox = SmallNet::new().sandbox();
    let (folder, file) = ("--calib images --calib-indices 3", "--calib images/foliage_0.png");
    assert_eq!(quantized(&sandbox, folder), quantized(&sandbox, file));
    assert_eq!(emulated(&sandbox)["samples"], 12);
}

#[test]
fn gray_images_count_for_three_channels_and_alpha_for_nothing() {
    let sandbox = SmallNet::new().sandbox();
    for (folder, image) in [("gray", gray(20, 24)), ("colour", gray_in_colour(20, 24)), ("alpha", with_alpha(20, 24))] {
        write(&sandbox, &format!("{folder}/one.png"), &image);
    }
    let [gray, colour, alpha] = ["gray", "colour", "alpha"].map(|f| quantized(&sandbox, &format!("--calib {f}")));
    assert_eq!(gray, colour);
    assert_eq!(alpha, colour);
}

#[test]
fn descriptions_come_in_many_spellings() {
    let net = SmallNet::new();
    let expected = quantized(&net.sandbox(), "--calib images");
    let spelled = |prototxt: String| SmallNet { prototxt, layers: net.layers.clone() }.sandbox();
    let unknown = net.clone().with(
        "convolution_param { num_output: 4 kernel_size: 1 }",
        "convolution_param { num_output: 4 kernel_size: 1 fancy: AUTO } quantization_param { bw_params: 8 list: [1, 2] }",
    );
    let header = "layer { name: \"data\" type: \"Input\" top: \"data\" input_param \
                  { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }";
    let short = net.clone().with(header, "input: \"data\" input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16");
    let cases = [
        ("CRLF", net.prototxt.replace('\n', "\r\n")),
        ("byte order mark", format!("\u{feff}{}", net.prototxt)),
        ("unknown fields", unknown.prototxt),
        ("short header", short.prototxt),
        ("comments", format!("# a network\n{}", net.prototxt.replace("\nlayer {", " # end\nlayer: {"))),
        ("single quotes", net.prototxt.replace('"', "'")),
    ];
    for (spelling, prototxt) in cases {
        assert_eq!(quantized(&spelled(prototxt), "--calib images"), expected, "{spelling}");
    }
}

/// The former format: `layers`, types as words of an enumeration.
const FORMER: &str = "
input: 'data' input_dim: 1 input_dim: 3 input_dim: 16 input_dim: 16
layers { name: 'conv1' type: CONVOLUTION bottom: 'data' top: 'conv1' blobs_lr: 1
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
layers { name: 'relu1' type: RELU bottom: 'conv1' top: 'conv1' }
layers { name: 'conv2' type: CONVOLUTION bottom: 'conv1' top: 'conv2' convolution_param { num_output: 4 kernel_size: 1 } }
";

#[test]
fn the_former_format_means_the_same() {
    let mut net = SmallNet::new();
    net.layers.retain(|(name, _)| name.starts_with("conv"));
    let former = SmallNet { prototxt: FORMER.to_owned(), layers: net.layers.clone() };
    let mut current = FORMER.replace("layers {", "layer {").replace("blobs_lr: 1", "");
    for (old, new) in [("CONVOLUTION", "'Convolution'"), ("RELU", "'ReLU'")] {
        current = current.replace(old, new);
    }
    let current = SmallNet { prototxt: current, layers: net.layers };
    let file = quantized(&former.sandbox(), "--calib images");
    assert_eq!(file, quantized(&current.sandbox(), "--calib images"));
    assert_eq!(file.network.len(), 2);
}

#[test]
fn weights_that_do_not_fit_are_named_with_their_layer() {
    let net = SmallNet::new;
    let without = |layer: &str| {
        let mut net = net();
        net.layers.retain(|(name, _)| *name != layer);
        net
    };
    let mut shape = net();
    shape.blobs("conv2")[0] = (vec![4, 2, 1, 1], vec![0.5; 8]);
    let mut count = net();
    count.blobs("fc").pop();
    let mut short = net();
    short.blobs("fc")[1].1.pop();
    let mut cases = vec![
        (without("conv2"), vec!["layer `conv2`", "hint: "]),
        (without("gain"), vec!["layer `gain`", "hint: "]),
        (shape, vec!["layer `conv2`", "[4, 2, 1, 1]", "[4, 4, 1, 1]"]),
        (count, vec!["layer `fc`", "1", "2", "hint: "]),
        (short, vec!["layer `fc`", "2", "3"]),
    ];
    let mut extra = net();
    extra.blobs("conv1").push((vec![4], vec![0.0; 4]));
    cases.push((extra, vec!["layer `conv1`", "hint: "]));
    for (net, parts) in cases {
        quantize(&net.sandbox(), "--calib images").failed(1, &[&["error: net.prototxt, line "], &parts[..]].concat());
    }
}

/// Lines that must fail: options, exit code and parts of the message.
const REQUESTS: &[(&str, i32, &[&str])] = &[
    ("--calib empty", 1, &["no JPEG, PNG, BMP or .npy file in empty", "hint: "]),
    ("--calib nowhere", 1, &["data set nowhere does not exist", "hint: "]),
    ("--calib images --dims 3,17,16", 1, &["layer `data`", "is 3x16x16, not 3x17x16", "hint: "]),
    ("--calib images --dims 1,16,16", 1, &["layer `data`", "is 3x16x16, not 1x16x16", "hint: "]),
    ("--calib images --dims 1,16,16 --override-dims", 1, &["only height and width can be overridden"]),
    ("--calib images --dims 3,16", 2, &["--dims takes 3 numbers, found 2"]),
    ("--calib images --calib-indices 1,2 --seed 3", 2, &["--calibration_indices", "cannot be used with", "_seed"]),
    ("--calib images --calib-indices 1,2,1", 1, &["calibration index 1 is given more than once", "hint: "]),
    ("--calib images --calib-indices 1,99", 1, &["calibration index 99 is out of range", "numbers from 0 to 11"]),
    ("--calib images --calib-indices 1,2,3 --calib-size 2", 1, &["size 2 is less than the number of indices, 3"]),
    ("--calib images --calib-size 13", 1, &["calibration size 13 is more than the 12 samples there are", "hint: "]),
    ("--calib images --calib-size 0", 1, &["a calibration of 0 samples calibrates nothing", "hint: "]),
    ("--calib images --calib-indices 1,x", 2, &["invalid value '1,x' for '--calibration_indices"]),
    ("--calib images --calib-indices 1,-2", 2, &["invalid value '1,-2' for '--calibration_indices"]),
    ("--calib images --bitwidths 8,8,16", 2, &["--bitwidths [8, 8, 16]: the three must be equal"]),
    ("--calib images --bitwidths 4,4,4", 2, &["--bitwidths: 4 bits are not supported; codes have 8 or 16 bits"]),
    ("--calib images --bitwidths 8", 2, &["--bitwidths takes 3 numbers, found 1"]),
    ("--calib images --raw_scale 1 --mean 127.5", 2, &["--raw_scale", "--mean,", "cannot be mixed"]),
    ("--calib images --mean_value 1,2,3 --preprocess raw", 2, &["--mean_value", "--preprocess", "cannot be mixed"]),
    ("--calib images --mean_value 1,2", 1, &["mean has 2 values for 3 channels", "hint: "]),
    ("--calib images --channel_swap 0,1,3", 1, &["there is no channel 3", "hint: "]),
    ("--calib images --transpose 0,1,1", 1, &["each of the axes 0, 1 and 2 is needed once", "hint: "]),
    ("--calib images --override-dims", 2, &["--dims <C,H,W>"]),
    ("--calib images --skip con[", 2, &["`--skip con[` is not a valid pattern"]),
    ("", 2, &["calibration data is needed to quantize 7 nodes", "hint: "]),
    ("--calib images --preset compat --emit-plan plan.json", 2, &["`--emit-plan` and `--sequential`", "exclude"]),
    ("--calib images --emit onnx --emit-merged merged", 2, &["--emit-merged"]),
];

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let sandbox = SmallNet::new().sandbox();
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    for (options, code, parts) in REQUESTS {
        let outcome = quantize(&sandbox, options);
        outcome.failed(*code, parts);
    }
    assert_eq!(sandbox.files(), ["net.caffemodel", "net.prototxt"], "nothing is written");
}

#[test]
fn quantization_files_that_do_not_fit_are_refused() {
    let sandbox = SmallNet::new().sandbox();
    let good = quantized(&sandbox, "--calib images");
    let text = good.to_text(Default::default()).unwrap();
    let channels = text.replacen("\"th_params\": [", "\"th_params\": [\n1.0,", 1);
    let widths = text.replacen("\"bw_layer_in\": 8", "\"bw_layer_in\": 16", 1);
    let negative = text.replacen("\"th_layer_in\": ", "\"th_layer_in\": -", 1);
    let cases = [
        (text[..text.len() / 2].to_owned(), vec!["line"]),
        ("hello".to_owned(), vec!["line 1"]),
        (String::new(), vec!["EOF"]),
        ("{}".to_owned(), vec!["network"]),
        ("{\"network\": []}".to_owned(), vec!["no entries"]),
        (channels, vec!["conv1"]),
        (widths, vec!["conv1", "bw_layer_in"]),
        (negative, vec!["conv1", "-"]),
        (text.replace("\"name\": \"", "\"name\": \"other_"), vec!["no layer of the network has an entry"]),
    ];
    for (text, parts) in cases {
        sandbox.write("cfg.json", text);
        let outcome = sandbox.quantize("caffe emulate net.prototxt net.caffemodel --quantcfg cfg.json --data images");
        outcome.failed(1, &[&["error: cfg.json", "hint: "], &parts[..]].concat());
    }
    let missing = sandbox.quantize("caffe emulate net.prototxt net.caffemodel --quantcfg no.json --data images");
    missing.failed(1, &["no.json"]);
}
