//! Convolution, pooling and resampling.

use super::super::builder::{Fault, NodeBuilder, Results};
use quantize_ir::Op;
use quantize_ir::op::{
    AspectPolicy, AveragePool, Conv, ConvTranspose, CoordinateMode, FilterLayout, Layout, MaxPool, NearestMode,
    Padding, Resize, ResizeMode, Rounding, Window,
};

/// The spatial axes of images with channels last.
const ROWS_AND_COLUMNS: [i64; 2] = [1, 2];

pub(super) fn read(b: &mut NodeBuilder<'_>) -> Option<Results> {
    Some(match b.node().op() {
        "Conv2D" => conv(b),
        "DepthwiseConv2dNative" => depthwise(b),
        "Conv2DBackpropInput" => transposed(b),
        "MaxPool" | "AvgPool" => pool(b),
        "MaxPoolV2" => pool_of_inputs(b),
        "ResizeBilinear" => resize(b, ResizeMode::Linear),
        "ResizeNearestNeighbor" => resize(b, ResizeMode::Nearest(NearestMode::Floor)),
        _ => return None,
    })
}

/// Where channels stand in the images that the node reads.
pub(super) fn layout(b: &NodeBuilder<'_>) -> Result<Layout, Fault> {
    match b.node().text("data_format")?.as_deref() {
        None | Some("NHWC") => Ok(Layout::ChannelsLast),
        Some("NCHW") => Ok(Layout::ChannelsFirst),
        Some(other) => Err(Fault::form(format!("data of the format {other}"))),
    }
}

/// The two spatial entries of a list with one for each axis of an image, of which the others must be `rest`.
fn spatial<T: Copy + PartialEq>(list: &[T], layout: Layout, rest: T) -> Option<[T; 2]> {
    let &[n, a, b, c] = list else { return None };
    let (space, channels) = match layout {
        Layout::ChannelsLast => ([a, b], c),
        Layout::ChannelsFirst => ([b, c], a),
    };
    (n == rest && channels == rest).then_some(space)
}

/// Numbers of a list attribute that has one for each axis.
fn per_axis(b: &NodeBuilder<'_>, name: &str, layout: Layout) -> Result<Vec<usize>, Fault> {
    match b.node().ints(name)?.filter(|list| !list.is_empty()) {
        None => Ok(Vec::new()),
        Some(list) => sizes(&list, layout, name),
    }
}

fn sizes(list: &[i64], layout: Layout, name: &str) -> Result<Vec<usize>, Fault> {
    let space = spatial(list, layout, 1).ok_or_else(|| Fault::form(format!("`{name}` is {list:?}")))?;
    let size = |n: i64| usize::try_from(n).ok().filter(|n| *n > 0);
    space.into_iter().map(size).collect::<Option<_>>().ok_or_else(|| Fault::form(format!("`{name}` is {list:?}")))
}

fn padding(b: &NodeBuilder<'_>, layout: Layout) -> Result<Padding, Fault> {
    match b.node().text("padding")?.as_deref() {
        Some("SAME") => Ok(Padding::SameUpper),
        Some("VALID") => Ok(Padding::Valid),
        Some("EXPLICIT") => {
            let list = b.node().ints("explicit_paddings")?.unwrap_or_default();
            explicit(&list, layout).ok_or_else(|| Fault::form(format!("`explicit_paddings` is {list:?}")))
        }
        other => Err(b.invalid(format!("its padding is {}", other.unwrap_or("not given")))),
    }
}

/// Numbers before and after each axis.
fn explicit(list: &[i64], layout: Layout) -> Option<Padding> {
    let (pairs, []) = list.as_chunks::<2>() else { return None };
    let [rows, columns] = spatial(pairs, layout, [0, 0])?;
    let side = |at: usize| {
        let sizes = [rows, columns].into_iter().map(|pair| usize::try_from(*pair.get(at)?).ok());
        sizes.collect::<Option<Vec<usize>>>()
    };
    Some(Padding::Explicit { begin: side(0)?, end: side(1)? })
}

fn window(b: &NodeBuilder<'_>, layout: Layout) -> Result<Window, Fault> {
    let (strides, dilations) = (per_axis(b, "strides", layout)?, per_axis(b, "dilations", layout)?);
    Ok(Window { strides, dilations, padding: padding(b, layout)?, rounding: Rounding::Floor })
}

fn conv(b: &mut NodeBuilder<'_>) -> Results {
    let layout = layout(b)?;
    let conv = Conv { window: window(b, layout)?, group: 1, layout, filter: FilterLayout::OutputLast };
    b.main(Op::Conv(conv), &[b.input(0)?, b.input(1)?])
}

/// A weight `[rows, columns, channels, multiplier]` has its elements where one of a convolution with a group for each
/// channel has them, `[rows, columns, 1, channels * multiplier]`.
fn depthwise(b: &mut NodeBuilder<'_>) -> Results {
    let layout = layout(b)?;
    let Some(&[rows, columns, channels, multiplier]) = b.constant_shape(1)?.as_deref() else {
        return Err(Fault::form("its weight is not a constant with four axes"));
    };
    let window = window(b, layout)?;
    let weight = b.in_shape(1, "filter", &[rows, columns, 1, channels.saturating_mul(multiplier)])?;
    let conv = Conv { window, group: channels, layout, filter: FilterLayout::OutputLast };
    b.main(Op::Conv(conv), &[b.input(0)?, weight])
}

/// Inputs are the sizes of the result, a weight `[rows, columns, result channels, channels]`, and what is convolved.
fn transposed(b: &mut NodeBuilder<'_>) -> Results {
    let layout = layout(b)?;
    let list = b.integers(0)?;
    let wanted = |n: i64| usize::try_from(n).ok();
    let space = match (list.as_slice(), layout) {
        (&[_, rows, columns, _], Layout::ChannelsLast) | (&[_, _, rows, columns] | &[rows, columns], _) => {
            [rows, columns]
        }
        _ => return Err(b.invalid(format!("its sizes are {list:?}"))),
    };
    let sizes = space.into_iter().map(wanted).collect::<Option<Vec<_>>>();
    let mut output_shape = sizes.ok_or_else(|| b.invalid(format!("its sizes are {list:?}")))?;
    let window = window(b, layout)?;
    match window.padding {
        Padding::SameUpper => {}
        Padding::Valid if fills(b, &window, &output_shape)? => output_shape.clear(),
        _ => return Err(Fault::form("its padding leaves a border of its result that nothing reaches")),
    }
    let op = ConvTranspose {
        window,
        group: 1,
        output_padding: Vec::new(),
        output_shape,
        layout,
        filter: FilterLayout::OutputLast,
    };
    b.main(Op::ConvTranspose(Box::new(op)), &[b.input(2)?, b.input(1)?])
}

/// Whether windows that nothing extends reach the whole of a result of these sizes.
fn fills(b: &NodeBuilder<'_>, window: &Window, sizes: &[usize]) -> Result<bool, Fault> {
    let Some(weight) = b.constant_shape(1)? else { return Ok(false) };
    let at = |list: &[usize], axis: usize| list.get(axis).copied().unwrap_or(1);
    Ok(sizes.iter().enumerate().all(|(axis, size)| {
        let extent = at(&window.dilations, axis) * (at(&weight, axis).max(1) - 1) + 1;
        size.checked_sub(extent).is_some_and(|rest| rest % at(&window.strides, axis) == 0)
    }))
}

fn pool(b: &mut NodeBuilder<'_>) -> Results {
    let layout = layout(b)?;
    let (kernel, window) = (per_axis(b, "ksize", layout)?, window(b, layout)?);
    pooled(b, kernel, window, layout)
}

fn pool_of_inputs(b: &mut NodeBuilder<'_>) -> Results {
    let layout = layout(b)?;
    let (kernel, strides) = (sizes(&b.integers(1)?, layout, "ksize")?, sizes(&b.integers(2)?, layout, "strides")?);
    let window = Window { strides, ..window(b, layout)? };
    pooled(b, kernel, window, layout)
}

fn pooled(b: &mut NodeBuilder<'_>, kernel: Vec<usize>, window: Window, layout: Layout) -> Results {
    if kernel.is_empty() {
        return Err(b.invalid("it has no `ksize`"));
    }
    let op = match b.node().op() {
        "AvgPool" => Op::AveragePool(AveragePool { kernel, window, count_include_pad: false, layout }),
        _ => Op::MaxPool(MaxPool { kernel, window, column_major: false, layout }),
    };
    b.main(op, &[b.input(0)?])
}

fn resize(b: &mut NodeBuilder<'_>, mode: ResizeMode) -> Results {
    let flag = |name: &str| b.node().bool(name).map(|flag| flag.unwrap_or(false));
    let (align, centred) = (flag("align_corners")?, flag("half_pixel_centers")?);
    let nearest = matches!(mode, ResizeMode::Nearest(_));
    let (mode, coordinates) = match (align, centred) {
        (true, _) if nearest => (ResizeMode::Nearest(NearestMode::RoundPreferCeil), CoordinateMode::AlignCorners),
        (true, _) => (mode, CoordinateMode::AlignCorners),
        (false, true) if nearest => (mode, CoordinateMode::TfHalfPixelForNearest),
        (false, true) => (mode, CoordinateMode::HalfPixel),
        (false, false) => (mode, CoordinateMode::Asymmetric),
    };
    let resize =
        Resize { mode, coordinates, antialias: false, axes: ROWS_AND_COLUMNS.to_vec(), aspect: AspectPolicy::Stretch };
    let sizes = b.wide(1)?;
    b.main_with_gaps(Op::Resize(resize), vec![Some(b.input(0)?), None, None, Some(sizes)])
}
