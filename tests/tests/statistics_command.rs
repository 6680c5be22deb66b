//! Statistics that are saved, sharded, merged and loaded, and plans that are fed back.
#![allow(clippy::unwrap_used)]

use quantize_tests::sandbox::{DATA, Sandbox};
use serde_json::Value;

const MODEL: &str = "tiny_classifier";

/// Runs `quantize onnx` on the classifier in its folder.
fn onnx(sandbox: &Sandbox, options: &str) -> (Option<i32>, String) {
    let outcome = sandbox.quantize(&format!("onnx {MODEL}.onnx {options}"));
    (outcome.code, outcome.stderr)
}

fn done(sandbox: &Sandbox, options: &str) {
    let (code, stderr) = onnx(sandbox, options);
    assert_eq!(code, Some(0), "{options}: {stderr}");
}

fn saved(options: &str) -> Vec<u8> {
    let sandbox = Sandbox::with_models(&[MODEL]);
    done(&sandbox, &format!("{DATA} {options} -o int8.onnx --save-stats all.qstats"));
    sandbox.read("all.qstats")
}

#[test]
fn statistics_have_the_same_bytes_for_any_shards_threads_and_order_of_files() {
    let whole = saved("");
    for threads in [1, 2, 7] {
        assert!(saved(&format!("--threads {threads}")) == whole, "{threads} threads");
    }
    for shards in [1, 3, 8] {
        let sandbox = Sandbox::with_models(&[MODEL]);
        let parts: Vec<String> = (1..=shards).map(|i| format!("part{i}.qstats")).collect();
        for (i, part) in parts.iter().enumerate() {
            done(&sandbox, &format!("{DATA} --shard {}/{shards} --save-stats {part}", i + 1));
        }
        assert!(!sandbox.files().contains(&format!("{MODEL}.int8.onnx")), "a shard writes statistics alone");
        for (name, turn) in [("forward", 0), ("turned", shards / 2), ("backward", shards)] {
            let mut order = parts.clone();
            order.rotate_left(turn % shards);
            if turn == shards {
                order.reverse();
            }
            let _ = sandbox.quantize(&format!("stats merge {} -o {name}.qstats", order.join(" "))).succeeded();
            assert!(sandbox.read(&format!("{name}.qstats")) == whole, "{shards} shards, {name}");
        }
    }
    let sandbox = Sandbox::with_models(&[MODEL]);
    for kinds in [["stripes", "sky"], ["foliage", "disc"]] {
        for kind in kinds {
            sandbox.copy_images("shuffled", |name| name.starts_with(kind));
        }
    }
    done(&sandbox, &format!("{} -o int8.onnx --save-stats all.qstats", DATA.replace("images", "shuffled")));
    assert!(sandbox.read("all.qstats") == whole, "shuffled files");
}

#[test]
fn loaded_statistics_give_the_model_that_gathered_ones_give() {
    for options in ["", "--range mse", "--format qoperator --range percentile", "--activations s8", "--skip conv1"] {
        let sandbox = Sandbox::with_models(&[MODEL]);
        done(&sandbox, &format!("{DATA} {options} -o direct.onnx --save-stats all.qstats --emit-plan direct.json"));
        done(&sandbox, &format!("--stats all.qstats {DATA} {options} -o loaded.onnx --emit-plan loaded.json"));
        assert!(sandbox.read("direct.onnx") == sandbox.read("loaded.onnx"), "{options}");
        assert!(sandbox.read("direct.json") == sandbox.read("loaded.json"), "{options}");
        // What needs no images needs none.
        let plain = format!("{options} --bias-correction none");
        done(&sandbox, &format!("{DATA} {plain} -o direct.onnx"));
        done(&sandbox, &format!("--stats all.qstats {plain} -o loaded.onnx"));
        assert!(sandbox.read("direct.onnx") == sandbox.read("loaded.onnx"), "{plain}");
    }
}

#[test]
fn without_images_nothing_is_corrected_and_that_is_said() {
    let sandbox = Sandbox::with_models(&[MODEL]);
    done(&sandbox, &format!("{DATA} -o direct.onnx --save-stats all.qstats"));
    let (code, stderr) = onnx(&sandbox, "--stats all.qstats -o loaded.onnx");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning: rounding is not corrected: that needs images"), "{stderr}");
}

#[test]
fn a_plan_fed_back_gives_the_same_model() {
    let targets = ["", "--format qoperator", "--activations s8 --symmetric-activations", "--activations u16"];
    let both = ["tiny_classifier", "tiny_detector"].into_iter().flat_map(|m| targets.map(|target| (m, target, "")));
    for (model, target, recipe) in both.chain([(MODEL, "", "--skip conv1"), (MODEL, "", "--range mse --skip *bn*")]) {
        let sandbox = Sandbox::with_models(&[model]);
        let direct = format!("onnx {model}.onnx {DATA} {target} {recipe} -o direct.onnx --emit-plan plan.json");
        let _ = sandbox.quantize(&direct).succeeded();
        let again = format!("onnx {model}.onnx --plan plan.json {target} -o again.onnx");
        let _ = sandbox.quantize(&again).succeeded();
        assert!(sandbox.read("direct.onnx") == sandbox.read("again.onnx"), "{model} {target} {recipe}");
    }
}

#[test]
fn what_a_plan_decides_cannot_be_asked_for_beside_it() {
    let sandbox = Sandbox::with_models(&[MODEL]);
    done(&sandbox, &format!("{DATA} -o direct.onnx --emit-plan plan.json"));
    for option in ["--range mse", "--weights per-tensor", "--stats x.qstats", "--save-stats x.qstats"] {
        let (code, stderr) = onnx(&sandbox, &format!("--plan plan.json {option} -o again.onnx"));
        assert_eq!(code, Some(2), "{option}: {stderr}");
        let name = option.split(' ').next().unwrap();
        assert!(stderr.contains("cannot be used with") && stderr.contains(name), "{option}: {stderr}");
    }
}

#[test]
fn a_shard_of_nothing_says_that_nothing_is_quantized() {
    let sandbox = Sandbox::with_models(&[MODEL]);
    let (code, stderr) = onnx(&sandbox, &format!("{DATA} --skip * --shard 1/2 --save-stats part.qstats"));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("no node can be quantized") && stderr.contains("skipped on request"), "{stderr}");
    assert!(!sandbox.files().contains(&"part.qstats".to_owned()));
}

#[test]
fn who_shares_codes_with_whom_follows_from_the_model_alone() {
    let (sandbox, code, stderr) = edited(|plan| {
        for entry in plan["activations"].as_array_mut().unwrap() {
            entry["shares_with"] = "input".into();
        }
    });
    assert_eq!(code, Some(0), "{stderr}");
    assert!(sandbox.read("direct.onnx") == sandbox.read("edited.onnx"));
}

/// The plan of the classifier, changed by `edit`, and how carrying it out ends.
fn edited(edit: impl Fn(&mut Value)) -> (Sandbox, Option<i32>, String) {
    let sandbox = Sandbox::with_models(&[MODEL]);
    done(&sandbox, &format!("{DATA} -o direct.onnx --emit-plan plan.json"));
    let mut plan: Value = serde_json::from_slice(&sandbox.read("plan.json")).unwrap();
    edit(&mut plan);
    sandbox.write("plan.json", plan.to_string());
    let (code, stderr) = onnx(&sandbox, "--plan plan.json -o edited.onnx");
    (sandbox, code, stderr)
}

fn entry<'a>(plan: &'a mut Value, list: &str, key: &str, name: &str) -> &'a mut Value {
    plan[list].as_array_mut().unwrap().iter_mut().find(|e| e[key] == name).unwrap()
}

#[test]
fn an_edited_plan_is_carried_out() {
    let (sandbox, code, stderr) = edited(|plan| {
        entry(plan, "activations", "tensor", "input")["scale"] = 0.25.into();
        entry(plan, "nodes", "node", "pointwise")["decision"] = "keep".into();
    });
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("fp32: 1 Conv (`pointwise`): skipped on request"), "{stderr}");
    done(&sandbox, &format!("{DATA} --skip pointwise -o skipped.onnx"));
    let bytes = sandbox.read("edited.onnx");
    let scale = 0.25f32.to_le_bytes();
    assert!(bytes.windows(4).any(|window| window == scale), "the edited scale is in the file");
    assert!(bytes != sandbox.read("skipped.onnx"));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_its_place() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 7] = [
        (|p| entry(p, "activations", "tensor", "input")["scale"] = (-1.0).into(), "activation `input`: "),
        (
            |p| entry(p, "activations", "tensor", "input")["type"] = "int8".into(),
            "its type is int8, but activations are",
        ),
        (|p| entry(p, "nodes", "node", "conv1")["node"] = "gone".into(), "node `gone`: there is no such node"),
        (|p| entry(p, "nodes", "node", "conv1")["decision"] = "maybe".into(), "`maybe` is no decision"),
        (|p| p["activations"].as_array_mut().unwrap().clear(), "the plan has no entry for it"),
        (|p| entry(p, "constants", "node", "conv1")["scale"] = vec![0.5, 0.5].into(), "the plan has 2 scales for"),
        (|p| p["version"] = 7.into(), "field `version`: version 7 is not known"),
    ];
    for (edit, part) in cases {
        let (sandbox, code, stderr) = edited(edit);
        assert_eq!(code, Some(1), "{part}: {stderr}");
        assert!(stderr.contains(part), "{part}: {stderr}");
        assert!(!sandbox.files().contains(&"edited.onnx".to_owned()), "{part}");
    }
}

#[test]
fn statistics_that_do_not_fit_are_refused() {
    let sandbox = Sandbox::with_models(&[MODEL, "tiny_detector"]);
    done(&sandbox, &format!("{DATA} --shard 1/2 --save-stats half.qstats"));
    done(&sandbox, &format!("{DATA} --skip conv1 -o int8.onnx --save-stats skipped.qstats"));
    let refused = |line: &str, part: &str| {
        let outcome = sandbox.quantize(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part) && outcome.stderr.contains("hint: "), "{line}: {}", outcome.stderr);
    };
    refused("onnx tiny_classifier.onnx --stats half.qstats", "half.qstats: 6 of 12 samples are missing");
    refused("onnx tiny_detector.onnx --stats skipped.qstats", "it holds statistics of another model");
    refused("onnx tiny_classifier.onnx --stats skipped.qstats", "it has no statistics of tensor `input`");
    refused("onnx tiny_classifier.onnx --stats tiny_classifier.onnx", "this is no file of statistics");
    refused("stats merge half.qstats half.qstats -o twice.qstats", "both files have seen sample");
    refused("stats merge half.qstats skipped.qstats -o mixed.qstats", "they hold different tensors");
    let outcome = sandbox.quantize("stats show half.qstats").succeeded();
    assert!(outcome.stdout.contains("6 of 12 samples; merge with the other shards"), "{}", outcome.stdout);
    let outcome = sandbox.quantize("onnx tiny_classifier.onnx --shard 3/2 --save-stats x --calib images");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("expected a share such as 1/8"), "{}", outcome.stderr);
}
