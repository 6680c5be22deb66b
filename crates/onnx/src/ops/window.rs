//! Convolution and pooling.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::Op;
use quantize_ir::op::{
    AveragePool, Conv, ConvTranspose, FilterLayout, GlobalPool, Layout, LpPool, MaxPool, Padding, Rounding, Window,
};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Conv", operands: 2..=3, results: 1, read: conv },
    Row { name: "ConvTranspose", operands: 2..=3, results: 1, read: conv_transpose },
    Row { name: "MaxPool", operands: 1..=1, results: 2, read: max_pool },
    Row { name: "AveragePool", operands: 1..=1, results: 1, read: average_pool },
    Row { name: "LpPool", operands: 1..=1, results: 1, read: lp_pool },
    Row {
        name: "GlobalAveragePool",
        operands: 1..=1,
        results: 1,
        read: |_| Ok(Op::GlobalPool(GlobalPool::Average).into()),
    },
    Row { name: "GlobalMaxPool", operands: 1..=1, results: 1, read: |_| Ok(Op::GlobalPool(GlobalPool::Max).into()) },
    Row { name: "GlobalLpPool", operands: 1..=1, results: 1, read: global_lp_pool },
];

fn window(node: &NodeReader<'_>) -> Result<Window, ReadError> {
    let padding = match node.text_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => explicit(node)?,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        "VALID" => Padding::Valid,
        other => return Err(ReadError::Value { name: "auto_pad", value: format!("`{other}`") }),
    };
    let (strides, dilations) = (node.positive_sizes("strides")?, node.positive_sizes("dilations")?);
    Ok(Window { strides, dilations, padding, rounding: Rounding::Floor })
}

/// The window of a pooling operator, which may round up.
fn pool_window(node: &NodeReader<'_>) -> Result<Window, ReadError> {
    let rounding = if node.flag("ceil_mode", false)? { Rounding::Ceil } else { Rounding::Floor };
    Ok(Window { rounding, ..window(node)? })
}

fn explicit(node: &NodeReader<'_>) -> Result<Padding, ReadError> {
    let pads = node.sizes("pads")?;
    if pads.len() % 2 != 0 {
        return Err(ReadError::Value { name: "pads", value: format!("{pads:?}, an odd number of entries") });
    }
    let (begin, end) = pads.split_at(pads.len() / 2);
    Ok(Padding::Explicit { begin: begin.to_vec(), end: end.to_vec() })
}

fn kernel(node: &NodeReader<'_>) -> Result<Vec<usize>, ReadError> {
    let kernel = node.positive_sizes("kernel_shape")?;
    if kernel.is_empty() { Err(ReadError::Missing("kernel_shape")) } else { Ok(kernel) }
}

fn group(node: &NodeReader<'_>) -> Result<usize, ReadError> {
    match node.size_or("group", 1)? {
        0 => Err(ReadError::Value { name: "group", value: "0".into() }),
        group => Ok(group),
    }
}

/// Refuses a `kernel_shape` that is not the spatial shape of the weight, where both are given.
fn check_kernel(node: &NodeReader<'_>) -> Result<(), ReadError> {
    let kernel = node.sizes("kernel_shape")?;
    let Some((name, weight)) = node.constant_shape(1).filter(|_| !kernel.is_empty()) else { return Ok(()) };
    if weight.get(2..) == Some(kernel.as_slice()) {
        return Ok(());
    }
    let cause = format!("kernel_shape {kernel:?} does not match weight `{name}` of shape {weight:?}");
    Err(ReadError::Contradiction(cause))
}

fn conv(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    check_kernel(node)?;
    let layout = Layout::ChannelsFirst;
    let filter = FilterLayout::OutputFirst;
    Ok(Op::Conv(Conv { window: window(node)?, group: group(node)?, layout, filter }).into())
}

fn conv_transpose(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    check_kernel(node)?;
    let op = ConvTranspose {
        window: window(node)?,
        group: group(node)?,
        output_padding: node.sizes("output_padding")?,
        output_shape: node.sizes("output_shape")?,
        layout: Layout::ChannelsFirst,
        filter: FilterLayout::OutputFirst,
    };
    Ok(Op::ConvTranspose(op.into()).into())
}

fn max_pool(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let (kernel, window) = (kernel(node)?, pool_window(node)?);
    let column_major = node.flag("storage_order", false)?;
    Ok(Op::MaxPool(MaxPool { kernel, window, column_major, layout: Layout::ChannelsFirst }).into())
}

fn average_pool(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let (kernel, window) = (kernel(node)?, pool_window(node)?);
    let count_include_pad = node.flag("count_include_pad", false)?;
    Ok(Op::AveragePool(AveragePool { kernel, window, count_include_pad, layout: Layout::ChannelsFirst }).into())
}

fn norm(node: &NodeReader<'_>) -> Result<u32, ReadError> {
    let p = node.int_or("p", 2)?;
    u32::try_from(p).ok().filter(|p| *p > 0).ok_or_else(|| ReadError::Value { name: "p", value: p.to_string() })
}

fn lp_pool(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let (kernel, window) = (kernel(node)?, pool_window(node)?);
    Ok(Op::LpPool(LpPool { kernel, window, p: norm(node)?, layout: Layout::ChannelsFirst }).into())
}

fn global_lp_pool(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    Ok(Op::GlobalPool(GlobalPool::Lp(norm(node)?)).into())
}
