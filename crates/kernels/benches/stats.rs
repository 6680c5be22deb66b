//! Speed of the statistics of a tensor, in elements.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quantize_kernels::Isa;
use quantize_kernels::stats::{BINS, Counters, Values, count_equal, survey};
use std::time::Duration;

/// Reproducible values that are nearly normally distributed.
fn normal(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

/// Name, and what is done to a normally distributed value.
type Data = (&'static str, fn(f32) -> f32);

const DATA: [Data; 4] = [
    ("normal", |x| x),
    ("half zeros", |x| x.max(0.0)),
    ("a tenth clipped", |x| (x * 4.7).min(6.0)),
    ("all equal", |_| 6.0),
];

fn bench(c: &mut Criterion) {
    let isa = Isa::active();
    let mut group = c.benchmark_group(format!("statistics, {}", isa.name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    for (name, made) in DATA {
        for len in [1_000, 10_000, 100_000, 1_000_000] {
            let values: Vec<f32> = normal(len).into_iter().map(made).collect();
            let (mut counters, mut counts) = (Counters::default(), Box::new([0; BINS]));
            let exponent = survey(isa, Values::Plain(&values), None, &mut counters).exponent;
            group.throughput(Throughput::Elements(len as u64));
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    let found = survey(isa, Values::Plain(&values), exponent, &mut counters);
                    counters.add_to(isa, &mut counts);
                    found
                });
            });
            if len == 100_000 {
                group.bench_function(BenchmarkId::new(format!("{name}, occurrences"), len), |b| {
                    b.iter(|| count_equal(isa, Values::Plain(&values), values[0]));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
