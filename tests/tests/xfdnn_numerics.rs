//! The arithmetic of xfDNN against thresholds, integers and published quantization files of the original.
#![allow(clippy::unwrap_used)]

use quantize_ir::Tensor;
use quantize_numerics::TensorStats;
use quantize_numerics::xfdnn::multiplier::{average_factor, eltwise_factor, product_factor};
use quantize_numerics::xfdnn::{
    BiasGrid, BitWidth, Flavor, Limits, Multiplier, Rescaler, Stage, SymmetricGrid, average_pool, kl_threshold,
    kl_threshold_of, power_of_two_threshold, scale_factor, weight_scale_factor,
};
use quantize_tests::arrays::{npy, npz};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of the reference data, if there is one.
fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("QUANTIZE_SHARED").map(|shared| PathBuf::from(shared).join("golden/xfdnn"));
    if shared.is_none() {
        quantize_tests::skipped("QUANTIZE_SHARED is not set");
    }
    shared
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn real(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key}"))
}

fn integer(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("no integer {key}"))
}

fn reals(value: &Value, key: &str) -> Vec<f64> {
    array(value, key).iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Reals that were f32 before they were printed.
fn floats(value: &Value, key: &str) -> Vec<f32> {
    reals(value, key).into_iter().map(|x| x as f32).collect()
}

fn integers(value: &Value, key: &str) -> Vec<i64> {
    array(value, key).iter().map(|x| x.as_i64().unwrap()).collect()
}

fn codes(value: &Value, key: &str) -> Vec<i32> {
    integers(value, key).into_iter().map(|code| i32::try_from(code).unwrap()).collect()
}

fn width(value: &Value, key: &str) -> BitWidth {
    BitWidth::try_from(integer(value, key)).unwrap()
}

fn multiplier(value: &Value) -> Multiplier {
    let shift = |key| value.get(key).map_or(0, |shift| u32::try_from(shift.as_u64().unwrap()).unwrap());
    Multiplier {
        prescale_shift: shift("prescale_shift"),
        scale: real(value, "scale") as i32,
        postscale_shift: shift("postscale_shift"),
    }
}

const WIDTHS: [(BitWidth, &str); 2] = [(BitWidth::Eight, "bw8"), (BitWidth::Sixteen, "bw16")];

fn elements(array: &Tensor) -> &[f32] {
    array.as_slice().unwrap()
}

#[test]
fn thresholds_equal_those_of_the_original() {
    let Some(golden) = golden() else { return };
    let expected = json(&golden.join("vectors/kl_threshold_expected.json"));
    let inputs = npz(&golden.join("vectors/kl_threshold_inputs.npz"));
    for (name, input) in &inputs {
        // In several parts, as a batch of images is.
        let parts: Vec<&[f32]> = elements(input).chunks(7001).collect();
        for (bits, key) in WIDTHS {
            let (found, expected) = (kl_threshold(&parts, bits), real(&expected[name], key));
            assert!((found - expected).abs() <= 1e-12 * expected, "{name} {key}: {found} {expected}");
        }
    }
    assert_eq!((inputs.len(), expected.as_object().unwrap().len()), (8, 8));
}

#[test]
fn thresholds_of_whole_input_batches_equal_those_of_the_reference_pass() {
    let Some(golden) = golden() else { return };
    let images = npy(&golden.join("e2e_open_nsfw/input4.npy"));
    let pass = json(&golden.join("e2e_open_nsfw/pass_log.json"));
    let synthetic = &npz(&golden.join("tiny_mix/fp32.npz"))["input"];
    let tiny = &json(&golden.join("tiny_mix/fp32_and_log.json"))["threshold_log_faithful"];
    for (bits, key) in WIDTHS {
        let first_of_pass = real(&pass[key]["log"][0], "th_layer_out");
        for (batch, expected) in [(&images, first_of_pass), (synthetic, real(&tiny[key][0], "th"))] {
            let found = kl_threshold(&[elements(batch)], bits);
            assert!((found - expected).abs() <= 1e-12 * expected, "{:?} {key}: {found} {expected}", batch.shape());
        }
    }
}

/// The histogram knows values to 1/2048 of the maximum or better, and the divergence is flat: another bin may win by a
/// hair. Most of these thresholds are the same bin all the same.
#[test]
fn thresholds_from_one_pass_are_near_those_of_the_original() {
    let Some(golden) = golden() else { return };
    let expected = json(&golden.join("vectors/kl_threshold_expected.json"));
    let mut same = 0;
    for (name, input) in npz(&golden.join("vectors/kl_threshold_inputs.npz")) {
        let mut stats = TensorStats::new();
        for (image, part) in (0..).zip(elements(&input).chunks(7001)) {
            stats.observe(image, None, part).unwrap();
        }
        for (bits, key) in WIDTHS {
            let (found, expected) = (kl_threshold_of(&stats, bits).unwrap(), real(&expected[&name], key));
            let deviation = (found - expected).abs();
            let tolerance = if bits == BitWidth::Eight { 0.1 } else { 0.0 };
            assert!(deviation <= tolerance * expected, "{name} {key}: {found} {expected}");
            same += u32::from(deviation <= 1e-12 * expected);
        }
    }
    assert!(same >= 13, "only {same} of 16 are the same");
}

fn vectors(golden: &Path, key: &str, least: usize) -> Vec<Value> {
    let vectors = array(&json(&golden.join("vectors/xdnn_arith_vectors.json")), key).to_vec();
    assert!(vectors.len() >= least, "{} vectors of {key}", vectors.len());
    vectors
}

#[test]
fn codes_of_reals_equal_those_of_the_runtime() {
    let Some(golden) = golden() else { return };
    let grid = |v: &Value| SymmetricGrid::new(real(v, "threshold"), width(v, "bw")).unwrap();
    for v in vectors(&golden, "quantize_tensor", 6) {
        let mut found = vec![0; array(&v, "x").len()];
        grid(&v).input_codes(&floats(&v, "x"), &mut found).unwrap();
        assert_eq!(found, codes(&v, "q"));
    }
    for v in vectors(&golden, "quantize_weights", 6) {
        let mut found = vec![0; array(&v, "x").len()];
        grid(&v).weight_codes(&floats(&v, "x"), &mut found).unwrap();
        assert_eq!(found, codes(&v, "q"));
    }
    for v in vectors(&golden, "unquantize_tensor", 2) {
        let mut found = vec![0.0; array(&v, "q").len()];
        grid(&v).dequantize_slice(&codes(&v, "q"), &mut found).unwrap();
        assert_eq!(found, floats(&v, "x"));
    }
}

#[test]
fn bias_codes_equal_those_of_the_runtime() {
    let Some(golden) = golden() else { return };
    for v in vectors(&golden, "bias_v2", 2) {
        let output = SymmetricGrid::new(real(&v, "th_layer_out"), width(&v, "bw")).unwrap();
        let biases = BiasGrid::of(Flavor::V2, output, output, output);
        let found: Vec<i32> = floats(&v, "x").into_iter().map(|x| biases.code(x)).collect();
        assert_eq!(found, codes(&v, "q"));
    }
    for v in vectors(&golden, "bias_v3", 2) {
        let grid = |threshold| SymmetricGrid::new(threshold, width(&v, "bw")).unwrap();
        let input = grid(real(&v, "th_layer_in"));
        let of = |(&weights, x)| BiasGrid::of(Flavor::V3, input, grid(weights), input).code(x);
        let found: Vec<i32> = reals(&v, "th_params").iter().zip(floats(&v, "x")).map(of).collect();
        assert_eq!(found, codes(&v, "q"));
    }
}

#[test]
fn rescaled_accumulators_equal_those_of_the_runtime() {
    let Some(golden) = golden() else { return };
    for (flavor, key, least) in [(Flavor::V2, "interlayer_v2", 8), (Flavor::V3, "interlayer_v3", 7)] {
        for v in vectors(&golden, key, least) {
            let bias = v.get("bias").map_or(0, |bias| i32::try_from(bias.as_i64().unwrap()).unwrap());
            let rescaler = Rescaler::new(flavor, width(&v, "bw"), multiplier(&v), bias).unwrap();
            let mut found = vec![0; array(&v, "acc").len()];
            rescaler.apply_slice(&integers(&v, "acc"), &mut found).unwrap();
            assert_eq!(found, codes(&v, "q"), "{key}");
        }
    }
}

#[test]
fn average_pools_equal_those_of_the_runtime() {
    let Some(golden) = golden() else { return };
    for v in vectors(&golden, "avgpool", 6) {
        let found = average_pool(real(&v, "sum") as i64, multiplier(&v), width(&v, "bw"));
        assert_eq!(i64::from(found), integer(&v, "q"));
    }
}

/// Quantization files: path, flavour and number of entries.
const FILES: &[(&str, Flavor, usize)] = &[
    ("json/googlenet_int8_v2.json", Flavor::V2, 57),
    ("json/squeezenet_int8_v2.json", Flavor::V2, 26),
    ("json/squeezenet_int8_v3.json", Flavor::V3, 26),
    ("json/resnet50_int8_v3_pow2.json", Flavor::V3, 71),
    ("tiny_mix/faithful_v2_int8.json", Flavor::V2, 9),
    ("tiny_mix/faithful_v2_int16.json", Flavor::V2, 9),
    ("tiny_mix/faithful_v3_int8.json", Flavor::V3, 11),
    ("tiny_mix/faithful_v3_int16.json", Flavor::V3, 11),
    ("tiny_mix/groups_kl_v3_int8.json", Flavor::V3, 11),
    ("tiny_mix/groups_max_v3_int8.json", Flavor::V3, 11),
    ("e2e_open_nsfw/reference_v2_int8.json", Flavor::V2, 70),
    ("e2e_open_nsfw/reference_v3_int8.json", Flavor::V3, 71),
];

/// Average pools, whose window the files do not tell: a part of the path, the layer, and kernel height times width.
/// `gap` is global and covers its whole input.
const WINDOWS: &[(&str, &str, usize)] = &[
    ("resnet50", "pool5", 7 * 7),
    ("open_nsfw", "pool", 7 * 7),
    ("tiny_mix", "avg", 3 * 3),
    ("tiny_mix", "gap", 9 * 9),
];

/// What there is to compare in all files: products (convolution, inner product), their channels, and other entries.
const CONTENT: Compared = Compared { products: 319, channels: 69_852, elementwise: 64 };

#[derive(Debug, Default, PartialEq)]
struct Compared {
    products: usize,
    channels: usize,
    elementwise: usize,
}

#[test]
fn quantization_files_follow_from_their_thresholds() {
    let Some(golden) = golden() else { return };
    let mut compared = Compared::default();
    for &(file, flavor, entries) in FILES {
        let network = json(&golden.join(file));
        assert_eq!(array(&network, "network").len(), entries, "{file}");
        for entry in array(&network, "network") {
            compare(file, flavor, entry, &mut compared);
        }
    }
    assert_eq!(compared, CONTENT);
}

fn compare(file: &str, flavor: Flavor, entry: &Value, compared: &mut Compared) {
    let name = entry["name"].as_str().unwrap();
    let bits = width(entry, "bw_layer_in");
    let sf_in = scale_factor(real(entry, "th_layer_in"), bits);
    let sf_out = scale_factor(real(entry, "th_layer_out"), width(entry, "bw_layer_out"));
    assert_eq!((sf_in, sf_out), (real(entry, "sf_layer_in"), real(entry, "sf_layer_out")), "{file} {name}");
    let (stage, factors) = if entry.get("th_params").is_some() {
        let sf_params = weight_scale_factors(entry);
        compared.products += 1;
        compared.channels += sf_params.len();
        (Stage::Product, sf_params.iter().map(|&sf| product_factor(sf_in, sf, sf_out)).collect())
    } else {
        compared.elementwise += 1;
        (Stage::Elementwise, vec![elementwise_factor(file, name, sf_in, sf_out); array(entry, "scale").len()])
    };
    check_multipliers(entry, &factors, Limits::of(flavor, bits, stage), &format!("{file} {name}"));
}

/// Scale factors of the channels, checked against those of the file.
fn weight_scale_factors(entry: &Value) -> Vec<f32> {
    let bits = width(entry, "bw_params");
    let found: Vec<f32> = floats(entry, "th_params").into_iter().map(|th| weight_scale_factor(th, bits)).collect();
    let widened: Vec<f64> = found.iter().map(|&sf| f64::from(sf)).collect();
    assert_eq!(widened, reals(entry, "sf_params"));
    found
}

fn elementwise_factor(file: &str, name: &str, sf_in: f64, sf_out: f64) -> f64 {
    let pool = WINDOWS.iter().find(|(part, pool, _)| file.contains(part) && *pool == name);
    pool.map_or_else(|| eltwise_factor(sf_in, sf_out), |&(_, _, window)| average_factor(sf_in, sf_out, window))
}

fn check_multipliers(entry: &Value, factors: &[f64], limits: Limits, place: &str) {
    let found: Vec<Multiplier> = factors.iter().map(|&factor| Multiplier::decompose(factor, limits)).collect();
    let column = |part: fn(&Multiplier) -> i64| found.iter().map(part).collect::<Vec<i64>>();
    assert_eq!(column(|m| i64::from(m.prescale_shift)), integers(entry, "prescale_shift"), "{place}");
    assert_eq!(column(|m| i64::from(m.scale)), integers(entry, "scale"), "{place}");
    assert_eq!(column(|m| i64::from(m.postscale_shift)), integers(entry, "postscale_shift"), "{place}");
}

#[test]
fn thresholds_of_the_power_of_two_file_are_powers_of_two_times_the_largest_code() {
    let Some(golden) = golden() else { return };
    let network = json(&golden.join("json/resnet50_int8_v3_pow2.json"));
    for entry in array(&network, "network") {
        let mut thresholds = vec![real(entry, "th_layer_in"), real(entry, "th_layer_out")];
        if entry.get("th_params").is_some() {
            let weights = reals(entry, "th_params");
            assert!(weights.iter().all(|&th| th == weights[0]), "one threshold for each layer");
            thresholds.push(weights[0]);
        }
        for th in thresholds {
            assert_eq!(power_of_two_threshold(th, BitWidth::Eight), th, "{}", entry["name"]);
            // From slightly below it is reached again.
            assert_eq!(power_of_two_threshold(0.9 * th, BitWidth::Eight), th, "{}", entry["name"]);
        }
    }
}
