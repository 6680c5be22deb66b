//! Every instruction set against arithmetic on single numbers.

use super::{Isa, Kernel, Simd};
use crate::testing::{codes, noise};

/// Most lanes of any instruction set.
const MOST: usize = 16;

/// Runs every operation on `LANES` numbers; results in a fixed order.
struct Operations<'a> {
    a: &'a [f32; MOST],
    b: &'a [f32; MOST],
    x: &'a [i32; MOST],
    w: &'a [i32; MOST],
}

#[derive(Debug, PartialEq)]
struct Results {
    floats: Vec<[u32; MOST]>,
    integers: Vec<[i32; MOST]>,
    bytes: [u8; MOST],
}

impl Kernel for Operations<'_> {
    type Output = (usize, Results);

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) -> (usize, Results) {
        // SAFETY: the arrays have at least `LANES` elements.
        let (a, b) = unsafe { (s.load(self.a.as_ptr()), s.load(self.b.as_ptr())) };
        // SAFETY: as above.
        let (x, w) = unsafe { (s.load_i32(self.x.as_ptr()), s.load_i32(self.w.as_ptr())) };
        let (k, third) = (s.splat(3.0), s.splat(1.0 / 3.0));
        let floats = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.max(a, b),
            s.min(a, b),
            s.select_less(a, b, k, third),
            s.round(s.mul(a, k)),
            s.to_f32(x),
            s.of_bits(s.bits(a)),
            s.fused_mul_add(a, b, third),
        ];
        let bytes = self.x.map(|x| x as u8);
        // SAFETY: as above.
        let (unsigned, signed) = unsafe { (s.load_u8(bytes.as_ptr()), s.load_i8(bytes.as_ptr().cast())) };
        let normal = s.normal(s.mul(a, s.splat(f32::MIN_POSITIVE * 2.0)));
        let mut kept = [0; MOST];
        // SAFETY: as above.
        let kept = unsafe {
            s.store_kept(kept.as_mut_ptr(), x, normal);
            kept[normal.count_ones() as usize..].fill(0);
            s.load_i32(kept.as_ptr())
        };
        // SAFETY: as above.
        let quads = unsafe { s.load_quads(bytes_of(self.x).as_ptr(), s.quad_order()) };
        let integers = [
            s.add_i32(x, w),
            s.sub_i32(x, w),
            s.mul_i32(x, w),
            s.max_i32(x, w),
            s.shift_left::<5>(x),
            s.and_i32(x, w),
            s.to_i32(s.mul(a, k)),
            s.splat_i32(-7),
            s.dot_u8_i8(x, w, x),
            s.dot_i16(x, w, x),
            unsigned,
            signed,
            s.floor_i32(s.mul(a, k)),
            kept,
            quads,
        ];
        let mut results = Results { floats: Vec::new(), integers: Vec::new(), bytes: [0; MOST] };
        for v in floats {
            let mut out = [0.0; MOST];
            // SAFETY: as above.
            unsafe { s.store(out.as_mut_ptr(), v) };
            results.floats.push(out.map(f32::to_bits));
        }
        for v in integers {
            let mut out = [0; MOST];
            // SAFETY: as above.
            unsafe { s.store_i32(out.as_mut_ptr(), v) };
            results.integers.push(out);
        }
        // SAFETY: as above.
        unsafe { s.store_low_bytes(results.bytes.as_mut_ptr(), w) };
        (S::LANES, results)
    }
}

fn bytes_of(x: &[i32; MOST]) -> [u8; 4 * MOST] {
    std::array::from_fn(|i| x[i / 4].to_le_bytes()[i % 4])
}

fn expected(o: &Operations<'_>, lanes: usize) -> Results {
    let zeros = |v: [f32; MOST]| std::array::from_fn(|i| if i < lanes { v[i].to_bits() } else { 0 });
    let float = |f: &dyn Fn(f32, f32, i32) -> f32| zeros(std::array::from_fn(|i| f(o.a[i], o.b[i], o.x[i])));
    let integer = |f: &dyn Fn(i32, i32, f32) -> i32| {
        std::array::from_fn(|i| if i < lanes { f(o.x[i], o.w[i], o.a[i]) } else { 0 })
    };
    let dot = |x: i32, w: i32| -> i32 {
        let pairs = w.to_le_bytes().into_iter().zip(x.to_le_bytes());
        pairs.fold(x, |sum, (u, s)| sum.wrapping_add(i32::from(u) * i32::from(s as i8)))
    };
    let is_normal = |i: &usize| (o.a[*i] * (f32::MIN_POSITIVE * 2.0)).is_normal();
    let mut kept = [0; MOST];
    kept.iter_mut().zip((0..lanes).filter(is_normal)).for_each(|(to, i)| *to = o.x[i]);
    let bytes = bytes_of(o.x);
    let quad = |lane| i32::from_le_bytes(std::array::from_fn(|pixel| bytes[pixel * lanes + lane]));
    Results {
        floats: vec![
            float(&|a, b, _| a + b),
            float(&|a, b, _| a - b),
            float(&|a, b, _| a * b),
            float(&|a, b, _| a / b),
            float(&|a, b, _| if a > b { a } else { b }),
            float(&|a, b, _| if a < b { a } else { b }),
            float(&|a, b, _| if a < b { 3.0 } else { 1.0 / 3.0 }),
            float(&|a, _, _| (a * 3.0).round_ties_even()),
            float(&|_, _, x| x as f32),
            float(&|a, _, _| a),
            float(&|a, b, _| a.mul_add(b, 1.0 / 3.0)),
        ],
        integers: vec![
            integer(&|x, w, _| x.wrapping_add(w)),
            integer(&|x, w, _| x.wrapping_sub(w)),
            integer(&|x, w, _| x.wrapping_mul(w)),
            integer(&|x, w, _| x.max(w)),
            integer(&|x, _, _| x << 5),
            integer(&|x, w, _| x & w),
            integer(&|_, _, a| (a * 3.0).round_ties_even() as i32),
            integer(&|_, _, _| -7),
            integer(&|x, w, _| dot(x, w)),
            integer(&|x, w, _| {
                let half = |v: i32, i: u32| i32::from((v >> (16 * i)) as i16);
                (0..2).fold(x, |sum, i| sum.wrapping_add(half(w, i).wrapping_mul(half(x, i))))
            }),
            integer(&|x, _, _| i32::from(x as u8)),
            integer(&|x, _, _| i32::from(x as i8)),
            integer(&|_, _, a| (a * 3.0).floor() as i32),
            kept,
            std::array::from_fn(|lane| if lane < lanes { quad(lane) } else { 0 }),
        ],
        bytes: std::array::from_fn(|i| if i < lanes { o.w[i] as u8 } else { 0 }),
    }
}

#[test]
fn every_operation_is_what_its_name_says() {
    for seed in 0..500 {
        let float = |seed| -> [f32; MOST] { noise(seed, MOST).try_into().unwrap() };
        let word = |seed| -> [i32; MOST] {
            let (low, high) = (codes(seed, MOST, i16::MAX), codes(seed + 1, MOST, i16::MAX));
            std::array::from_fn(|i| i32::from(low[i] as u16) | i32::from(high[i]) << 16)
        };
        let (mut a, b) = (float(seed), float(seed + 1000));
        if seed % 5 == 0 {
            a[(seed % 8) as usize] = f32::NAN;
            a[(seed / 8 % 8) as usize] = b[(seed / 8 % 8) as usize];
        }
        let (x, w) = (word(seed), word(seed + 2000));
        for isa in Isa::all() {
            let operations = || Operations { a: &a, b: &b, x: &x, w: &w };
            let (lanes, found) = isa.run(operations());
            let mut expected = expected(&operations(), lanes);
            let mut found = found;
            // What a conversion of NaN gives is unspecified.
            let nan = |i: usize| a[i].is_nan();
            for (i, conversion) in (0..lanes).filter(|i| nan(*i)).flat_map(|i| [(i, 6), (i, 12)]) {
                (found.integers[conversion][i], expected.integers[conversion][i]) = (0, 0);
            }
            let any_nan = |v: &mut Results| {
                v.floats.iter_mut().flatten().for_each(|b| {
                    if f32::from_bits(*b).is_nan() {
                        *b = f32::NAN.to_bits()
                    }
                })
            };
            any_nan(&mut found);
            any_nan(&mut expected);
            assert_eq!(found, expected, "{} seed {seed}", isa.name());
        }
    }
}

#[test]
fn names_choose_and_unknown_ones_do_not() {
    let best = Isa::all().next().unwrap();
    assert_eq!(Isa::best_from("scalar").name(), "scalar");
    assert_eq!((Isa::best_from(""), Isa::best_from("mmx")), (best, best));
    for isa in Isa::all() {
        assert_eq!(Isa::best_from(isa.name()), isa);
        assert!(matches!(isa.lanes(), 8 | 16));
    }
}
