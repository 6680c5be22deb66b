//! Tests of resampling against the recorded cases.

use super::golden::CASES;
use super::*;
use crate::ops::testing::{assert_close, counting, run};
use quantize_ir::op::AspectPolicy;

/// [`Resize`] as constant data.
pub(super) struct Attributes {
    pub(super) mode: ResizeMode,
    pub(super) coordinates: CoordinateMode,
    pub(super) antialias: bool,
    pub(super) axes: &'static [i64],
    pub(super) aspect: AspectPolicy,
}

/// One resize of `x[i] = 7 i mod 23`; empty lists are not given.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) input: &'static [usize],
    pub(super) resize: Attributes,
    pub(super) roi: &'static [f32],
    pub(super) scales: &'static [f32],
    pub(super) sizes: &'static [i64],
    pub(super) shape: &'static [usize],
    pub(super) expected: &'static [f32],
}

fn attributes(a: &Attributes) -> Resize {
    Resize { mode: a.mode, coordinates: a.coordinates, antialias: a.antialias, axes: a.axes.to_vec(), aspect: a.aspect }
}

#[test]
fn agrees_with_onnxruntime() {
    for case in CASES {
        let len = case.input.iter().product::<usize>();
        let x = Tensor::new(case.input, (0..len).map(|i| (i * 7 % 23) as f32).collect::<Vec<_>>()).unwrap();
        let [roi, scales] = [case.roi, case.scales].map(|v| Tensor::vector(v.to_vec()));
        let sizes = Tensor::vector(case.sizes.to_vec());
        let y = run(&[&x, &roi, &scales, &sizes], |o, p| resize(&attributes(&case.resize), o, p)).unwrap();
        assert_eq!(y.shape(), case.shape, "{}", case.name);
        assert_close(case.name, y.as_slice().unwrap(), case.expected, 2e-5);
    }
}

fn plain(mode: ResizeMode) -> Resize {
    Resize {
        mode,
        coordinates: CoordinateMode::HalfPixel,
        antialias: false,
        axes: vec![],
        aspect: AspectPolicy::Stretch,
    }
}

fn by_sizes(attrs: &Resize, x: &Tensor, sizes: &[i64]) -> Result<Tensor, OpError> {
    let (none, sizes) = (Tensor::vector(Vec::<f32>::new()), Tensor::vector(sizes.to_vec()));
    run(&[x, &none, &none, &sizes], |o, p| resize(attrs, o, p))
}

#[test]
fn integers_are_interpolated_and_truncated() {
    let x = Tensor::new([1, 1, 2, 3], vec![0i32, 10, 255, 3, -77, 200]).unwrap();
    let y = by_sizes(&plain(ResizeMode::Linear), &x, &[1, 1, 4, 6]).unwrap();
    let expected =
        vec![0, 2, 7, 71, 193, 255, 0, -2, -8, 51, 178, 241, 2, -12, -40, 12, 146, 213, 3, -17, -57, -7, 130, 200];
    assert_eq!(y, Tensor::new([1, 1, 4, 6], expected).unwrap());
    let flags = Tensor::vector(vec![true, false]);
    let nearest = by_sizes(&plain(ResizeMode::Nearest(NearestMode::Floor)), &flags, &[4]).unwrap();
    assert_eq!(nearest, Tensor::vector(vec![true, true, true, false]));
    assert!(by_sizes(&plain(ResizeMode::Linear), &flags, &[4]).is_err());
}

#[test]
fn what_cannot_be_resampled() {
    let attrs = plain(ResizeMode::Linear);
    let x = counting(&[2, 2]);
    assert!(by_sizes(&attrs, &x, &[2]).is_err());
    assert!(by_sizes(&attrs, &x, &[-1, 2]).is_err());
    assert!(by_sizes(&attrs, &x, &[1 << 40, 1 << 40]).is_err());
    assert!(by_sizes(&attrs, &x, &[]).is_err());
    assert!(by_sizes(&attrs, &counting(&[0, 2]), &[1, 2]).is_err());
    assert!(by_sizes(&attrs, &x, &[0, 2]).unwrap().is_empty());
    let none = Tensor::vector(Vec::<f32>::new());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
        let scales = Tensor::vector(vec![scale, 1.0]);
        assert!(run(&[&x, &none, &scales], |o, p| resize(&attrs, o, p)).is_err(), "{scale}");
    }
    let both = Tensor::vector(vec![1.0f32, 1.0]);
    assert!(run(&[&x, &none, &both, &Tensor::vector(vec![2i64, 2])], |o, p| resize(&attrs, o, p)).is_err());
}
