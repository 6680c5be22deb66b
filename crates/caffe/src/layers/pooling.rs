//! Pooling over height and width.

use super::Row;
use super::builder::{Fault, LayerBuilder};
use super::shape::{dim, known, size};
use crate::params::Params;
use quantize_ir::op::{AveragePool, GlobalPool, Layout, MaxPool, Padding, Rounding, Window};
use quantize_ir::{Dim, Op};

pub(super) const ROWS: &[Row] = &[Row { kind: "Pooling", bottoms: 1..=1, tops: 1..=1, read: pooling }];

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Max,
    Average,
    Stochastic,
}

/// `PoolingParameter.PoolMethod`
const METHODS: &[(&str, u64, Method)] =
    &[("MAX", 0, Method::Max), ("AVE", 1, Method::Average), ("STOCHASTIC", 2, Method::Stochastic)];

/// `PoolingParameter.RoundMode` of forks
const ROUND_MODES: &[(&str, u64, Rounding)] = &[("CEIL", 0, Rounding::Ceil), ("FLOOR", 1, Rounding::Floor)];

fn pooling(layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    let params = layer.params("pooling_param")?;
    let method = params.choice("pool", METHODS)?.unwrap_or(Method::Max);
    if method == Method::Stochastic {
        return Err(Fault::form("it pools stochastically"));
    }
    let x = layer.x()?;
    let shape = layer.shape(x);
    if shape.as_ref().is_some_and(|shape| shape.len() != 4) {
        return Err(Fault::invalid(format!("{} has not 4 axes", layer.describe(0))));
    }
    if params.flag("global_pooling", false)? {
        return global(layer, &params, method);
    }
    let mut axes = [
        Axis::read(&params, ["kernel_h", "stride_h", "pad_h"])?,
        Axis::read(&params, ["kernel_w", "stride_w", "pad_w"])?,
    ];
    let rounding = rounding(&params)?;
    let padded = axes.iter().any(|axis| axis.pad > 0);
    let result = match shape {
        None => None,
        Some(shape) => {
            let mut result = vec![dim(&shape, 0), dim(&shape, 1)];
            for (axis, input) in axes.iter_mut().zip(shape.iter().skip(2)) {
                let fitted = size(input).map(|input| axis.fit(input, rounding, padded));
                let fitted = fitted.transpose().map_err(|cause| format!("{cause} of {}", layer.describe(0)));
                result.push(fitted.map_err(Fault::invalid)?.map_or(Dim::Unknown, known));
            }
            Some(result)
        }
    };
    let kernel = axes.iter().map(|axis| axis.kernel).collect();
    let pads: Vec<usize> = axes.iter().map(|axis| axis.pad).collect();
    let window = Window {
        strides: axes.iter().map(|axis| axis.stride).collect(),
        dilations: Vec::new(),
        padding: Padding::Explicit { begin: pads.clone(), end: pads },
        rounding,
    };
    let layout = Layout::ChannelsFirst;
    let op = match method {
        Method::Max | Method::Stochastic => Op::MaxPool(MaxPool { kernel, window, column_major: false, layout }),
        // The divisor counts padding, but not what lies beyond it.
        Method::Average => Op::AveragePool(AveragePool { kernel, window, count_include_pad: true, layout }),
    };
    let y = layer.main(op, &[x], result);
    layer.set_results(vec![y]);
    Ok(())
}

fn global(layer: &mut LayerBuilder<'_>, params: &Params<'_>, method: Method) -> Result<(), Fault> {
    for name in ["kernel_size", "kernel_h", "kernel_w"] {
        if params.has(name) {
            return Err(params.error(name, "it has no meaning beside global_pooling").into());
        }
    }
    let x = layer.x()?;
    let result = layer.shape(x).map(|shape| vec![dim(&shape, 0), dim(&shape, 1), known(1), known(1)]);
    let pool = if method == Method::Average { GlobalPool::Average } else { GlobalPool::Max };
    let y = layer.main(Op::GlobalPool(pool), &[x], result);
    layer.set_results(vec![y]);
    Ok(())
}

/// Caffe rounds up; forks can choose.
fn rounding(params: &Params<'_>) -> Result<Rounding, Fault> {
    let mode = params.choice("round_mode", ROUND_MODES)?;
    let ceil = params.flag("ceil_mode", true)?;
    Ok(mode.unwrap_or(if ceil { Rounding::Ceil } else { Rounding::Floor }))
}

/// The window along one axis.
struct Axis {
    kernel: usize,
    stride: usize,
    pad: usize,
}

impl Axis {
    fn read(params: &Params<'_>, [kernel, stride, pad]: [&str; 3]) -> Result<Self, Fault> {
        let size = |own: &str, both: &str| Ok::<_, Fault>(params.size(own)?.or(params.size(both)?));
        let missing = || params.error("kernel_size", "it is missing");
        let axis = Self {
            kernel: size(kernel, "kernel_size")?.ok_or_else(missing)?,
            stride: size(stride, "stride")?.unwrap_or(1),
            pad: size(pad, "pad")?.unwrap_or(0),
        };
        if axis.kernel == 0 {
            return Err(params.error("kernel_size", "it is 0").into());
        }
        if axis.stride == 0 {
            return Err(params.error("stride", "it is 0").into());
        }
        if axis.pad >= axis.kernel {
            let cause = format!("a pad of {} leaves windows of {} empty", axis.pad, axis.kernel);
            return Err(params.error("pad", cause).into());
        }
        Ok(axis)
    }

    /// Number of windows over `input` elements, and a kernel no larger than the padded input.
    ///
    /// Caffe: `round((in + 2 pad - kernel) / stride) + 1`, one less if any axis is padded and the last window would
    /// start behind the input and its leading padding.
    fn fit(&mut self, input: usize, rounding: Rounding, padded: bool) -> Result<usize, String> {
        // Sizes are below 2^31.
        let [kernel, stride, pad, input] = [self.kernel, self.stride, self.pad, input].map(|n| n as i128);
        let whole = input + 2 * pad;
        let free = whole - kernel;
        let mut windows = match rounding {
            Rounding::Ceil => (free + stride - 1).div_euclid(stride) + 1,
            Rounding::Floor => free.div_euclid(stride) + 1,
        };
        let starts_behind = |windows: i128| (windows - 1) * stride >= input + pad;
        if padded && starts_behind(windows) {
            windows -= 1;
        }
        if windows < 1 {
            return Err(format!("windows of {kernel} do not fit {input} elements"));
        }
        if starts_behind(windows) {
            return Err(format!("the last window lies entirely behind the {input} elements"));
        }
        self.kernel = usize::try_from(kernel.min(whole)).unwrap_or(self.kernel);
        usize::try_from(windows).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::shape::resolve_window;

    fn fit(kernel: usize, stride: usize, pad: usize, input: usize, rounding: Rounding) -> Result<usize, String> {
        let mut axis = Axis { kernel, stride, pad };
        let windows = axis.fit(input, rounding, pad > 0)?;
        let padding = Padding::Explicit { begin: vec![pad], end: vec![pad] };
        let window = Window { strides: vec![stride], dilations: vec![], padding, rounding };
        let shared = resolve_window(&window, &[axis.kernel], &[input]).unwrap()[0];
        assert_eq!(shared.output, windows, "the shared operator has another number of windows");
        Ok(windows)
    }

    #[test]
    fn windows_are_counted_as_caffe_does() {
        let cases = [
            ("rounds up", fit(3, 2, 0, 33, Rounding::Ceil), Ok(16)),
            ("a partial window", fit(3, 2, 0, 34, Rounding::Ceil), Ok(17)),
            ("rounds down", fit(3, 2, 0, 34, Rounding::Floor), Ok(16)),
            ("a window in the padding goes", fit(2, 2, 1, 3, Rounding::Ceil), Ok(2)),
            ("a kernel beyond the input", fit(3, 2, 0, 2, Rounding::Ceil), Ok(1)),
            ("of size one", fit(1, 1, 0, 1, Rounding::Ceil), Ok(1)),
        ];
        for (name, found, expected) in cases {
            assert_eq!(found, expected, "{name}");
        }
        assert!(fit(1, 3, 0, 3, Rounding::Ceil).unwrap_err().contains("entirely behind"));
        assert!(fit(5, 2, 0, 2, Rounding::Ceil).unwrap_err().contains("do not fit"));
        assert!(fit(3, 2, 0, 2, Rounding::Floor).unwrap_err().contains("do not fit"));
    }

    #[test]
    fn the_shared_operator_has_as_many_windows_wherever_caffe_has_some() {
        for (kernel, stride, pad, input) in (1..6usize)
            .flat_map(|k| (1..5usize).map(move |s| (k, s)))
            .flat_map(|(k, s)| (0..k).flat_map(move |p| (1..20usize).map(move |i| (k, s, p, i))))
        {
            for rounding in [Rounding::Ceil, Rounding::Floor] {
                let _ = fit(kernel, stride, pad, input, rounding);
            }
        }
    }
}
