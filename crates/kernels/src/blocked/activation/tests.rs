//! Activations against their definitions, on every instruction set.

use super::*;

fn on(isa: Isa, activation: Activation, x: &[f32]) -> Vec<f32> {
    let mut y = x.to_vec();
    activate(isa, activation, &mut y);
    y
}

fn sweep() -> Vec<f32> {
    let steps = (-40_000..40_000).map(|i| i as f32 / 400.0);
    steps.chain((-1000..1000).map(|i| i as f32 * 1e-5)).chain([0.0, -0.0, 1e-30, -1e30, 1e30]).collect()
}

#[test]
fn every_function_is_close_to_its_definition() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    type Definition<'a> = &'a dyn Fn(f64) -> f64;
    let cases: [(Activation, Definition<'_>); 8] = [
        (Activation::Identity, &|x| x),
        (Activation::Clamp { lo: -1.0, hi: 6.0 }, &|x| x.clamp(-1.0, 6.0)),
        (Activation::LeakyRelu { alpha: 0.1 }, &|x| if x < 0.0 { f64::from(0.1f32) * x } else { x }),
        (Activation::Sigmoid, &sigmoid),
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }, &|x| (f64::from(0.2f32) * x + 0.5).clamp(0.0, 1.0)),
        (Activation::HardSwish, &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Activation::Tanh, &f64::tanh),
    ];
    let x = sweep();
    for isa in Isa::all() {
        for (activation, definition) in cases {
            for (x, found) in x.iter().zip(on(isa, activation, &x)) {
                let expected = definition(f64::from(*x));
                let error = (f64::from(found) - expected).abs();
                let allowed = expected.abs() * 4e-7 + 1e-37;
                assert!(
                    error <= allowed || error <= 1e-7 && expected.abs() < 0.3 && activation != Activation::Tanh,
                    "{} {activation:?}({x}): {found} instead of {expected}",
                    isa.name()
                );
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        exp(s, x)
    }
}

struct EachExp<'a>(&'a mut [f32]);

impl Kernel for EachExp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        each(s, self.0, Exp);
    }
}

#[test]
fn exponentials_are_within_two_units_of_the_last_place() {
    let x: Vec<f32> = (-87_300..88_700).map(|i| i as f32 / 1000.0).collect();
    for isa in Isa::all() {
        let mut y = x.clone();
        isa.run_float(EachExp(&mut y));
        for (x, found) in x.iter().zip(&y) {
            let exact = f64::from(*x).exp();
            let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            let error = (f64::from(*found) - exact).abs() / unit;
            assert!(error <= 2.0, "{} exp({x}): off by {error} units", isa.name());
        }
        let mut ends = [f32::NEG_INFINITY, -200.0, 200.0, f32::INFINITY, f32::NAN];
        isa.run_float(EachExp(&mut ends));
        assert_eq!(ends[..4], [0.0, 0.0, f32::INFINITY, f32::INFINITY], "{}", isa.name());
        assert!(ends[4].is_nan(), "{}", isa.name());
    }
}

#[test]
fn nan_stays_and_infinities_give_limits() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for isa in Isa::all() {
        for (activation, limits) in [
            (Activation::Clamp { lo: 0.0, hi: 6.0 }, [6.0, 0.0]),
            (Activation::Clamp { lo: 0.0, hi: f32::INFINITY }, [f32::INFINITY, 0.0]),
            (Activation::LeakyRelu { alpha: 0.5 }, [f32::INFINITY, f32::NEG_INFINITY]),
            (Activation::Sigmoid, [1.0, 0.0]),
            (Activation::HardSigmoid { alpha: 1.0, beta: 0.0 }, [1.0, 0.0]),
            (Activation::Tanh, [1.0, -1.0]),
        ] {
            let y = on(isa, activation, &x);
            assert!(y[0].is_nan(), "{} {activation:?}", isa.name());
            assert_eq!(y[1..], limits, "{} {activation:?}", isa.name());
        }
    }
}
