//! Data beyond folders of photos: arrays, several inputs, batches.
#![allow(clippy::unwrap_used)]

use quantize_tests::arrays::{npy_bytes, npy_int64, npz_bytes, tensor_message};
use quantize_tests::fixtures;
use quantize_tests::models::{edited, graph};
use quantize_tests::sandbox::{DATA, Sandbox};
use quantize_tests::token_net::token_net;
use serde_json::Value;

const MODEL: &str = "tiny_classifier";

/// A sandbox with the classifier, and the inputs that its images become in every form: one file for each, and all of
/// them in one.
fn with_arrays() -> Sandbox {
    let sandbox = Sandbox::with_models(&[MODEL]);
    let samples = fixtures::samples(16);
    let names = fixtures::image_names();
    assert_eq!(samples.len(), names.len());
    for (name, sample) in names.iter().zip(&samples) {
        let stem = name.rsplit_once('.').unwrap().0;
        let values = sample.as_slice::<f32>().unwrap();
        sandbox.write(&format!("npy/{stem}.npy"), npy_bytes(sample.shape(), values));
        sandbox.write(&format!("lone/{stem}.npy"), npy_bytes(&sample.shape()[1..], values));
        sandbox.write(&format!("npz/{stem}.npz"), npz_bytes(&[("arr_0", npy_bytes(sample.shape(), values))], true));
        sandbox.write(&format!("pb/{stem}.pb"), tensor_message(sample));
    }
    let all: Vec<f32> = samples.iter().flat_map(|sample| sample.as_slice::<f32>().unwrap().to_vec()).collect();
    let all = npy_bytes(&[samples.len(), 3, 16, 16], &all);
    sandbox.write("all.npz", npz_bytes(&[("other", npy_bytes(&[1], &[0.0])), ("input", all.clone())], false));
    sandbox.write("all.npy", all);
    sandbox
}

/// The ways in which [`with_arrays`] holds the same samples.
const FORMS: [&str; 6] = ["npy", "lone", "npz", "pb", "all.npy", "all.npz"];

fn plan(sandbox: &Sandbox, name: &str) -> Value {
    serde_json::from_slice(&sandbox.read(name)).unwrap()
}

#[test]
fn arrays_of_every_form_give_the_same_model() {
    let sandbox = with_arrays();
    for form in FORMS {
        let line = format!("onnx {MODEL}.onnx --calib {form} -o {form}.onnx --emit-plan {form}.json");
        let said = sandbox.quantize(&line).succeeded();
        assert!(!said.stderr.contains("warning"), "nothing is assumed of arrays: {}", said.stderr);
        assert!(sandbox.read(&format!("{form}.onnx")) == sandbox.read("npy.onnx"), "{form}");
    }
    let named = format!("onnx {MODEL}.onnx --calib input=npy --threads 3 -o named.onnx");
    let _ = sandbox.quantize(&named).succeeded();
    assert!(sandbox.read("named.onnx") == sandbox.read("npy.onnx"));
    let _ = sandbox.quantize(&format!("onnx {MODEL}.onnx {DATA} -o images.onnx --emit-plan images.json")).succeeded();
    let (images, arrays) = (plan(&sandbox, "images.json"), plan(&sandbox, "npy.json"));
    let (images, arrays) = (images["activations"].as_array().unwrap(), arrays["activations"].as_array().unwrap());
    for (image, array) in images.iter().zip(arrays) {
        let bounded = image["method"] == "possible input range";
        assert_eq!(bounded, image["tensor"] == "input");
        assert!(bounded || image == array, "{image} {array}");
        assert_ne!(array["method"], "possible input range", "nothing but its samples says what an array may hold");
    }
}

#[test]
fn a_choice_of_samples_means_the_same_for_every_form() {
    let sandbox = with_arrays();
    for (choice, images) in [("--calib-indices 9,1,4", 3), ("--calib-size 5 --seed 7", 5), ("--calib-size 5", 5)] {
        let mut first = None;
        for form in FORMS {
            let line = format!("onnx {MODEL}.onnx --calib {form} {choice} -o int8.onnx --output-format json");
            let said = sandbox.quantize(&line).succeeded();
            let report: Value = serde_json::from_str(&said.stdout).unwrap();
            assert_eq!(report["images"], images, "{form} {choice}");
            let bytes = sandbox.read("int8.onnx");
            assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{form} {choice}");
        }
    }
    let failed = |choice: &str, part: &str| {
        sandbox.quantize(&format!("onnx {MODEL}.onnx --calib all.npy {choice}")).failed(1, &[part]);
    };
    failed("--calib-size 13", "calibration size 13 is more than the 12 samples there are");
    failed("--calib-indices 12", "calibration index 12 is out of range, 12 samples are numbered from 0");
}

#[test]
fn statistics_of_shards_of_arrays_merge_to_those_of_the_whole() {
    let sandbox = with_arrays();
    let _ =
        sandbox.quantize(&format!("onnx {MODEL}.onnx --calib npy -o int8.onnx --save-stats whole.qstats")).succeeded();
    for form in ["npy", "lone"] {
        for i in 1..=3 {
            let line = format!("onnx {MODEL}.onnx --calib {form} --shard {i}/3 --save-stats {i}.qstats");
            let _ = sandbox.quantize(&line).succeeded();
        }
        let _ = sandbox.quantize("stats merge 3.qstats 1.qstats 2.qstats -o merged.qstats").succeeded();
        assert!(sandbox.read("merged.qstats") == sandbox.read("whole.qstats"), "{form}");
    }
}

#[test]
fn arrays_are_evaluated_and_compared_as_images_are() {
    let sandbox = with_arrays();
    let labels = String::from_utf8(std::fs::read(fixtures::labels()).unwrap()).unwrap();
    sandbox.write("images.csv", &labels);
    sandbox.write("npy.csv", labels.replace(".png", ".npy"));
    let by_image: Vec<(String, String)> = labels
        .lines()
        .filter_map(|line| line.split_once(','))
        .map(|(name, label)| (name.to_owned(), label.to_owned()))
        .collect();
    let label_of =
        |name: &str| by_image.iter().find(|(known, _)| known == name).map(|(_, label)| label.clone()).unwrap();
    let numbered = fixtures::image_names().into_iter().enumerate();
    let numbered: String = numbered.map(|(row, name)| format!("all.npy[{row}],{}\n", label_of(&name))).collect();
    sandbox.write("all.csv", numbered);
    let images = sandbox.quantize(&format!("eval {MODEL}.onnx --data images --labels images.csv {}", preprocessing()));
    let images = images.succeeded().stdout;
    for (data, labels) in [("npy", "npy.csv"), ("all.npy", "all.csv")] {
        let said = sandbox.quantize(&format!("eval {MODEL}.onnx --data {data} --labels {labels}")).succeeded();
        assert_eq!(said.stdout, images, "{data}");
    }
    let missing = sandbox.quantize(&format!("eval {MODEL}.onnx --data all.npy --labels npy.csv"));
    missing.failed(1, &["12 of 12 samples have no label in npy.csv, first all.npy[0], all.npy[1], all.npy[2]"]);
    let _ = sandbox.quantize(&format!("onnx {MODEL}.onnx --calib npy -o int8.onnx")).succeeded();
    let of_images = sandbox.quantize(&format!("compare {MODEL}.onnx int8.onnx {DATA} --worst 3")).succeeded().stdout;
    let of_arrays =
        sandbox.quantize(&format!("compare {MODEL}.onnx int8.onnx --calib pb --worst 3")).succeeded().stdout;
    let after_first = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(after_first(&of_arrays), after_first(&of_images));
    assert!(of_arrays.starts_with("12 samples, arrays as they are\n"), "{of_arrays}");
    let bench = sandbox.quantize(&format!("bench {MODEL}.onnx --int8 --calib all.npy --rounds 1 -q")).succeeded();
    assert!(bench.stdout.contains("[1, 3, 16, 16]"), "{}", bench.stdout);
}

/// The preprocessing of [`DATA`].
fn preprocessing() -> &'static str {
    DATA.split_once("images ").unwrap().1
}

/// The classifier with a fixed batch.
fn with_batch(batch: i64) -> Vec<u8> {
    use quantize_proto::onnx::tensor_shape_proto::dimension::Value;
    use quantize_proto::onnx::type_proto;
    edited(MODEL, |model| {
        let graph = graph(model);
        graph.value_info.clear();
        for port in graph.input.iter_mut().chain(&mut graph.output) {
            let Some(type_proto::Value::TensorType(tensor)) = port.r#type.as_mut().and_then(|t| t.value.as_mut())
            else {
                panic!("a tensor")
            };
            let first = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut()).unwrap();
            first.value = Some(Value::DimValue(batch));
        }
    })
}

#[test]
fn a_fixed_batch_is_filled_with_samples() {
    let sandbox = with_arrays();
    let labels = std::fs::read(fixtures::labels()).unwrap();
    sandbox.write("labels.csv", labels);
    let evaluated = |model: &str| {
        let line = format!("eval {model}.onnx --data images --labels labels.csv {}", preprocessing());
        sandbox.quantize(&line).succeeded().stdout
    };
    let expected = evaluated(MODEL);
    let plain = "--preset fast --bias-correction none";
    let one = format!("onnx {MODEL}.onnx --calib npy {plain} -o one.onnx --emit-plan one.json");
    let _ = sandbox.quantize(&one).succeeded();
    for batch in [2, 5, 12, 20] {
        let name = format!("batch{batch}");
        sandbox.write(&format!("{name}.onnx"), with_batch(batch));
        assert_eq!(evaluated(&name), expected, "{batch}");
        for form in ["npy", "all.npy"] {
            let line = format!("onnx {name}.onnx --calib {form} {plain} -o int8.onnx --emit-plan plan.json");
            let said = sandbox.quantize(&format!("{line} --output-format json")).succeeded();
            let report: Value = serde_json::from_str(&said.stdout).unwrap();
            assert_eq!(report["images"], 12);
            let scales = |name: &str| -> Vec<Value> {
                let plan = plan(&sandbox, name);
                plan["activations"].as_array().unwrap().iter().map(|entry| entry["scale"].clone()).collect()
            };
            assert_eq!(scales("plan.json"), scales("one.json"), "{batch} {form}: extremes do not depend on the batch");
        }
        let _ = sandbox.quantize(&format!("onnx {name}.onnx --calib npy -o corrected.onnx")).succeeded();
        let _ = sandbox.quantize(&format!("compare {name}.onnx corrected.onnx {DATA}")).succeeded();
    }
}

/// Samples of [`token_net`]: token ids of several lengths, and three real numbers for each.
fn with_tokens() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("net.onnx", token_net());
    for (sample, length) in [4_usize, 7, 4, 5, 9].into_iter().enumerate() {
        let ids: Vec<i64> = (0..length).map(|i| ((3 * sample + 5 * i) % 11) as i64).collect();
        let extra: Vec<f32> = (0..3).map(|i| (sample as f32 - 2.0) * 0.3 + i as f32 * 0.1).collect();
        let (ids, extra) = (npy_int64(&[1, length], &ids), npy_bytes(&[1, 3], &extra));
        sandbox.write(&format!("ids/{sample}.npy"), &ids);
        sandbox.write(&format!("extra/{sample}.npy"), &extra);
        sandbox.write(&format!("both/{sample}.npz"), npz_bytes(&[("extra", extra), ("token_ids", ids)], true));
    }
    sandbox
}

#[test]
fn several_inputs_are_fed_by_name() {
    let sandbox = with_tokens();
    let each = "--calib extra=extra --calib token_ids=ids";
    let said = sandbox.quantize(&format!("onnx net.onnx {each} -o each.onnx --save-stats each.qstats")).succeeded();
    assert!(said.stderr.contains("MatMul"), "{}", said.stderr);
    let _ = sandbox.quantize("onnx net.onnx --calib both -o both.onnx --save-stats both.qstats").succeeded();
    assert!(sandbox.read("each.onnx") == sandbox.read("both.onnx"));
    let _ = sandbox.quantize("onnx net.onnx --stats both.qstats -o stats.onnx").succeeded();
    assert!(sandbox.read("stats.onnx") == sandbox.read("both.onnx"));
    let said = sandbox.quantize(&format!("compare net.onnx each.onnx {each}")).succeeded();
    let head = "5 samples, `token_ids`: arrays as they are; `extra`: arrays as they are\n";
    assert!(said.stdout.starts_with(head), "{}", said.stdout);
    sandbox.write("labels.csv", "0.npy,1\n1.npy,1\n2.npy,1\n3.npy,1\n4.npy,1\n");
    let fp32 = sandbox.quantize("eval net.onnx --data token_ids=ids --data extra=extra --labels labels.csv");
    let int8 = sandbox.quantize("eval each.onnx --data token_ids=ids --data extra=extra --labels labels.csv");
    assert_eq!(fp32.succeeded().stdout, int8.succeeded().stdout);
    let _ = sandbox.quantize("bench net.onnx --int8 --calib both --rounds 1 -q").succeeded();
}

#[test]
fn what_does_not_fit_the_inputs_is_refused_with_what_would() {
    let sandbox = with_tokens();
    sandbox.write("short/0.npy", npy_int64(&[1, 4], &[0; 4]));
    sandbox.write("real/0.npy", npy_bytes(&[5, 4], &[0.0; 20]));
    sandbox.write("wide/0.npy", npy_bytes(&[5, 4], &[0.0; 20]));
    sandbox.write("nested/more/0.npy", npy_bytes(&[1], &[0.0]));
    sandbox.write("named.npz", npz_bytes(&[("ids", npy_int64(&[1, 4], &[0; 4]))], false));
    sandbox.write("mixed/0.npy", npy_int64(&[1, 4], &[0; 4]));
    sandbox.write("mixed/a.png", "");
    let cases: &[(&str, &[&str])] = &[
        (
            "--calib ids",
            &["it has 2 inputs (`token_ids`, `extra`), and ids holds arrays without names", "token_ids=PATH"],
        ),
        ("--calib images", &["it has 2 inputs (`token_ids`, `extra`), and images holds images"]),
        ("--calib token_ids=ids", &["input `extra` has no data", "hint: give each input its own: extra=PATH"]),
        ("--calib token_id=ids --calib extra=extra", &["no input `token_id`", "hint: write `token_ids=ids`"]),
        (
            "--calib pixels=ids --calib extra=extra",
            &["no input `pixels`", "inputs of this model: `token_ids`, `extra`"],
        ),
        ("--calib extra=ids --calib extra=extra", &["input `extra` is given twice: ids and extra"]),
        ("--calib ids --calib extra=extra", &["ids is one of several paths and says no input", "write NAME=ids"]),
        ("--calib token_ids=short --calib extra=extra", &["1 samples for input `token_ids` and 5 for `extra`"]),
        (
            "--calib token_ids=real --calib extra=extra",
            &["real/0.npy is float32 [5, 4], but model input `token_ids` takes int64 [batch, sequence]"],
        ),
        (
            "--calib token_ids=ids --calib extra=wide",
            &["wide/0.npy is float32 [5, 4], but model input `extra` takes float32 [batch, 3]"],
        ),
        ("--calib token_ids=ids --calib extra=images", &["input `extra` does not have four axes", "from arrays"]),
        (
            "--calib named.npz",
            &["named.npz holds no array for model input `token_ids`, but `ids`", "hint: call the array"],
        ),
        (
            "--calib token_ids=nested --calib extra=extra",
            &["no JPEG, PNG, BMP, .npy, .npz or .pb file in nested", "hint: "],
        ),
        (
            "--calib mixed",
            &["mixed holds 1 image and 1 array file", "hint: keep images and arrays in folders of their own"],
        ),
        ("--calib nowhere", &["nowhere does not exist"]),
    ];
    for (data, parts) in cases {
        sandbox.quantize(&format!("onnx net.onnx {data} -o int8.onnx")).failed(1, parts);
        assert!(!sandbox.files().contains(&"int8.onnx".to_owned()), "{data}");
    }
    let said = sandbox.quantize("onnx net.onnx --calib both --mean 3");
    said.failed(2, &["preprocessing options and arrays exclude each other: arrays are fed as they are"]);
}

#[test]
fn tokens_that_are_not_in_the_table_are_an_error_of_their_node() {
    let sandbox = with_tokens();
    sandbox.write("ids/4.npy", npy_int64(&[1, 2], &[0, 11]));
    let said = sandbox.quantize("onnx net.onnx --calib token_ids=ids --calib extra=extra -o int8.onnx");
    said.failed(1, &["Gather"]);
}

#[test]
fn damaged_arrays_are_named() {
    let sandbox = with_arrays();
    let model = format!("onnx {MODEL}.onnx -o int8.onnx");
    for (form, suffix) in [("npy", "npy"), ("npz", "npz"), ("pb", "pb")] {
        let name = format!("{form}/zzz.{suffix}");
        let first = format!("{form}/{}", fixtures::image_names()[0].replace("png", suffix));
        let whole = sandbox.read(&first);
        for length in [0, 1, 9, 40, whole.len() / 2, whole.len() - 1] {
            sandbox.write(&name, &whole[..length]);
            let said = sandbox.quantize(&format!("{model} --calib {form}"));
            said.failed(1, &[&name, "hint: "]);
        }
        assert!(!sandbox.files().contains(&"int8.onnx".to_owned()), "{form}");
    }
}
