//! Files made to cost much: deep, with many small parts, or with sizes that multiply to more than there is.
//!
//! Most are a few megabytes, so that whatever is made of each of a million parts shows in memory and time.

use crate::target::{Bomb, Outcome};
use crate::targets::{archive, array_file};
use quantize_document::encode::{bytes_field, varint, varint_field};

/// A million, or a few less.
const MANY: usize = 1_000_000;

/// Nodes of a large but real model.
const NODES: usize = 100_000;

/// Messages without a schema.
pub(crate) fn messages() -> Vec<Bomb> {
    vec![
        any("messages nested 100000 deep", || nested(100_000, 1, Vec::new())),
        refused("groups nested 100000 deep", || vec![0x0b; 100_000]),
        refused("groups closed that are not open", || vec![0x0c; 1000]),
        read("a million fields", || [0x08, 0x00].repeat(MANY)),
        refused("three million fields", || [0x08, 0x00].repeat(3 * MANY)),
        read("a million empty messages", || [0x0a, 0x00].repeat(MANY)),
        refused("a length of 2^63", || [&[0x0a][..], &number(1 << 63)].concat()),
        refused("a varint of eleven bytes", || [&[0x08][..], &[0xff; 11]].concat()),
    ]
}

/// Plan files.
pub(crate) fn plans() -> Vec<Bomb> {
    vec![
        refused("lists nested 100000 deep", || b"[".repeat(100_000)),
        refused("objects nested 100000 deep", || b"{\"nodes\":".repeat(100_000)),
        refused("a million empty lists", || [&b"["[..], &b"[],".repeat(MANY), b"[]]"].concat()),
        refused("a number of a million digits", || [&b"{\"version\":"[..], &b"9".repeat(MANY), b"}"].concat()),
    ]
}

/// Models.
pub(crate) fn models() -> Vec<Bomb> {
    vec![
        any("graphs in nodes, nested 30 deep", || model(&nested_graphs(30))),
        refused("graphs in nodes, nested 100000 deep", || model(&nested_graphs(100_000))),
        read("a chain of 100000 nodes", || model(&chain(NODES, |x, y| node("Relu", &[x], y)))),
        read("100000 sums of a value with itself", || model(&chain(NODES, |x, y| node("Add", &[x, x], y)))),
        read("3000 values joined with themselves", || model(&chain(3000, |x, y| node("Concat", &[x, x], y)))),
        refused("two nodes that wait for each other", || model(&cycle(2))),
        refused("100000 nodes that wait for each other", || model(&cycle(NODES))),
        any("a million empty nodes", || model(&[graph_ends(), bytes_field(1, b"").repeat(MANY)].concat())),
        any("a million empty attributes", || model(&one_node(&bytes_field(5, b"").repeat(MANY)))),
        any("a million empty operands", || model(&one_node(&bytes_field(1, b"").repeat(MANY)))),
        any("a million empty results", || model(&one_node(&bytes_field(2, b"").repeat(MANY)))),
        any("a node that reads a value a million times", || model(&one_node(&bytes_field(1, b"x").repeat(MANY)))),
        any("a million integers in an attribute", || model(&one_node(&bytes_field(5, &packed_ints(MANY))))),
        refused("a million empty initializers", || model(&[graph_ends(), bytes_field(5, b"").repeat(MANY)].concat())),
        refused("a million empty inputs", || model(&[graph_ends(), bytes_field(11, b"").repeat(MANY)].concat())),
        refused("a million empty outputs", || model(&[graph_ends(), bytes_field(12, b"").repeat(MANY)].concat())),
        any("a value that is an output 200000 times", || model(&many_outputs(200_000))),
        read("a million empty descriptions", || model(&[relu(), bytes_field(13, b"").repeat(MANY)].concat())),
        any("a million empty sparse initializers", || model(&[relu(), bytes_field(15, b"").repeat(MANY)].concat())),
        read("a million empty functions", || [model(&relu()), bytes_field(25, b"").repeat(MANY)].concat()),
        any("a million empty operator sets", || [model(&relu()), bytes_field(8, b"").repeat(MANY)].concat()),
        refused("a million graphs", || [model(&relu()), bytes_field(7, b"").repeat(MANY)].concat()),
        any("an initializer of a million axes", || model(&[relu(), initializer(&vec![1; MANY])].concat())),
        refused("an initializer of 2^64 elements", || model(&[relu(), initializer(&[1 << 32, 1 << 32])].concat())),
        refused("an initializer of 2^63 elements", || model(&[relu(), initializer(&[1 << 63])].concat())),
        any("an initializer of 2^40 elements", || model(&[relu(), initializer(&[1 << 40])].concat())),
        read("a graph of 5000 nodes with 3000 graphs in it", || model(&one_node(&bytes_field(5, &wide_body())))),
        any("a name of a million bytes in 50 messages", || model(&many_long_names())),
    ]
}

/// Models that passes could take long for.
pub(crate) fn costly_models() -> Vec<Bomb> {
    vec![
        any("a thousand tensors of 2^26 zeros, made from a few bytes", || model(&zeros(1000, 1 << 26))),
        any("twenty thousand tensors of 2^18 zeros", || model(&zeros(20_000, 1 << 18))),
        any("a chain of a thousand products of matrices", || model(&products(1000, 256))),
        any("a product of two matrices of 2^22 elements", || model(&products(1, 2048))),
        any("100000 nodes that read a constant of 2^18 elements", || model(&readers(NODES, 1 << 18))),
        any("100000 results that are joined", || model(&joined(NODES))),
        any("50000 products that lead into one chain", || model(&led_into_chain(NODES / 2))),
        any("a value passed on to 100000 results", || model(&passed_on(NODES))),
        any("20000 additions to a vector at an axis, as opset 6 has them", || old_model(&old_additions(20_000))),
    ]
}

/// Tensors in files of their own.
pub(crate) fn tensors() -> Vec<Bomb> {
    vec![
        refused("2^40 elements", || tensor(&[1 << 40])),
        refused("2^64 elements", || tensor(&[1 << 32, 1 << 32])),
        refused("a million axes", || tensor(&vec![2; MANY])),
        refused("four million integers for one", || [tensor(&[1]), packed(7, 4 * MANY)].concat()),
        refused("four million strings", || [tensor(&[1]), bytes_field(6, b"").repeat(4 * MANY)].concat()),
    ]
}

/// Records of statistics.
pub(crate) fn records() -> Vec<Bomb> {
    vec![
        refused("2^60 images", || [&[0; 35][..], &[0; 8], &(1u64 << 60).to_le_bytes()].concat()),
        refused("2^60 bins", || [&[0; 35][..], &(1u64 << 60).to_le_bytes()].concat()),
        refused("a million bytes of zeros", || vec![0; MANY]),
        refused("a million bytes of ones", || vec![0xff; MANY]),
    ]
}

/// Arrays.
pub(crate) fn arrays() -> Vec<Bomb> {
    vec![
        refused("2^40 elements", || array("(1099511627776,)")),
        refused("2^64 elements", || array("(4294967296, 4294967296)")),
        refused("2^128 elements", || array("(340282366920938463463374607431768211456,)")),
        refused("brackets in brackets", || array(&"(".repeat(60_000))),
        refused("axes without end", || array(&format!("({})", "1,".repeat(30_000)))),
        any("more than no elements of a length", || array("(0, 18446744073709551615, 18446744073709551615)")),
    ]
}

/// Archives of arrays.
pub(crate) fn archives() -> Vec<Bomb> {
    vec![
        refused("a gibibyte of zeros, compressed", || compressed("(1073741824,)", 1 << 30)),
        refused("2^40 elements, compressed", || compressed("(1099511627776,)", 1 << 20)),
        refused("fewer elements than there are bytes", || compressed("(1,)", 1 << 26)),
        refused("ten thousand arrays", || {
            let array = array_file(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (0,), }", &[]);
            let names: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
            let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), array.as_slice())).collect();
            archive(&members, zip::CompressionMethod::Stored)
        }),
    ]
}

/// An archive of an array of bytes that says to have this shape, and has `zeros` elements.
fn compressed(shape: &str, zeros: usize) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    archive(&[("x", &array_file(1, &header, &vec![0; zeros]))], zip::CompressionMethod::Deflated)
}

/// Descriptions of Caffe networks.
pub(crate) fn descriptions() -> Vec<Bomb> {
    vec![
        refused("brackets nested 100000 deep", || b"a{".repeat(100_000)),
        refused("brackets nested 100000 deep and closed", || [b"a{".repeat(100_000), b"}".repeat(100_000)].concat()),
        refused("lists nested 100000 deep", || b"a: [".repeat(100_000)),
        refused("a million fields", || b"a:1 ".repeat(MANY)),
        refused("a million layers", || b"layer{}".repeat(MANY / 2)),
        refused("a million empty lists", || b"a:[]".repeat(MANY)),
        refused("a name of a million quotes", || [&b"name:"[..], &b"''".repeat(MANY)].concat()),
        refused("an input of 2^64 elements", || caffe_net(&["4294967296"; 4])),
        refused("a comment of a megabyte", || b"#".repeat(MANY)),
        any("a chain of 20000 layers", || caffe_chain(20_000)),
    ]
}

/// Weights of Caffe networks.
pub(crate) fn weights() -> Vec<Bomb> {
    vec![
        any("a million empty layers", || bytes_field(100, b"").repeat(MANY)),
        any("a million empty former layers", || bytes_field(2, b"").repeat(MANY)),
        any("a million empty blobs", || bytes_field(100, &bytes_field(7, b"").repeat(MANY))),
        any("a blob of a million axes", || bytes_field(100, &bytes_field(7, &packed(7, MANY)))),
    ]
}

/// TensorFlow graphs.
pub(crate) fn graphs() -> Vec<Bomb> {
    vec![
        refused("a million empty nodes", || bytes_field(1, b"").repeat(MANY)),
        refused("100001 nodes too many", || bytes_field(1, &bytes_field(2, b"A")).repeat(2 * NODES)),
        any("a node of a million inputs", || bytes_field(1, &[named(), bytes_field(3, b"").repeat(MANY)].concat())),
        any("a node of a million attributes", || bytes_field(1, &[named(), bytes_field(5, b"").repeat(MANY)].concat())),
        any("a list of a million integers", || attribute(&bytes_field(1, &bytes_field(3, &vec![1; MANY])))),
        any("a list of a million empty strings", || attribute(&bytes_field(1, &bytes_field(2, b"").repeat(MANY)))),
        any("a shape of a million axes", || attribute(&bytes_field(7, &bytes_field(2, b"").repeat(MANY)))),
        any("a tensor of 2^60 elements", || attribute(&bytes_field(8, &tensor_of(&[1 << 30, 1 << 30], &[])))),
        any("one number for 2^40 elements", || {
            attribute(&bytes_field(8, &tensor_of(&[1 << 20, 1 << 20], &bytes_field(5, &[0; 4]))))
        }),
        any("a tensor of a million unpacked integers", || {
            attribute(&bytes_field(8, &tensor_of(&[MANY as u64], &varint_field(7, 1).repeat(MANY))))
        }),
        any("a library nested 100000 deep", || [bytes_field(1, &named()), nested(100_000, 2, Vec::new())].concat()),
    ]
}

/// The operator of a node.
fn named() -> Vec<u8> {
    bytes_field(2, b"A")
}

/// A graph of one node with one attribute.
fn attribute(value: &[u8]) -> Vec<u8> {
    let entry = [bytes_field(1, b"value"), bytes_field(2, value)].concat();
    bytes_field(1, &[named(), bytes_field(5, &entry)].concat())
}

/// A tensor of single precision with these dimensions and further fields.
fn tensor_of(dims: &[u64], fields: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| bytes_field(2, &varint_field(1, *dim))).collect();
    [varint_field(1, 1), bytes_field(2, &dims), fields.to_vec()].concat()
}

/// TensorFlow graphs as texts.
pub(crate) fn graph_texts() -> Vec<Bomb> {
    vec![
        refused("brackets nested 100000 deep", || b"node{".repeat(100_000)),
        refused("full types nested 100000 deep", || {
            [&b"node{experimental_type{"[..], &b"args{".repeat(100_000)].concat()
        }),
        any("a million empty nodes", || b"node{}".repeat(MANY)),
        any("a million nodes with an operator", || b"node{op:'A'}".repeat(MANY)),
        any("a million numbers", || {
            [&b"node{op:'A' attr{key:'a' value{list{i:["[..], &b"1,".repeat(MANY), b"1]}}}}"].concat()
        }),
        any("a comment of a megabyte", || b"#".repeat(MANY)),
    ]
}

/// Quantization files.
pub(crate) fn quantization_files() -> Vec<Bomb> {
    vec![
        refused("lists nested 100000 deep", || b"[".repeat(100_000)),
        refused("objects nested 100000 deep", || b"{\"network\":".repeat(100_000)),
        refused("a million empty entries", || [&b"{\"network\":["[..], &b"{},".repeat(MANY), b"{}]}"].concat()),
        refused("a million unknown keys", || [&b"{"[..], &b"\"a\":0,".repeat(MANY), b"\"b\":0}"].concat()),
        refused("a number of a million digits", || [&b"{\"network\":"[..], &b"1".repeat(MANY), b"}"].concat()),
    ]
}

const fn refused(name: &'static str, bytes: fn() -> Vec<u8>) -> Bomb {
    Bomb { name, bytes, outcome: Outcome::Refused }
}

const fn read(name: &'static str, bytes: fn() -> Vec<u8>) -> Bomb {
    Bomb { name, bytes, outcome: Outcome::Read }
}

/// It may be read or refused: what counts is what it costs.
const fn any(name: &'static str, bytes: fn() -> Vec<u8>) -> Bomb {
    Bomb { name, bytes, outcome: Outcome::Any }
}

fn number(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, value);
    bytes
}

/// Messages in messages that hold nothing else but the innermost.
fn nested(depth: usize, field: u32, innermost: Vec<u8>) -> Vec<u8> {
    let mut heads = Vec::with_capacity(depth);
    let mut length = innermost.len();
    for _ in 0..depth {
        let head = [number(u64::from(field) << 3 | 2), number(length as u64)].concat();
        length += head.len();
        heads.push(head);
    }
    heads.reverse();
    [heads.concat(), innermost].concat()
}

/// A list of zeros.
fn packed(field: u32, count: usize) -> Vec<u8> {
    bytes_field(field, &vec![0; count])
}

/// A model of operator set 13 with this graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [varint_field(1, 8), bytes_field(8, &varint_field(2, 13)), bytes_field(7, graph)].concat()
}

/// `ValueInfoProto` with a name alone.
fn value(name: &str) -> Vec<u8> {
    bytes_field(1, name.as_bytes())
}

/// The input `x` and the output `y`.
fn graph_ends() -> Vec<u8> {
    [bytes_field(11, &value("x")), bytes_field(12, &value("y"))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes_field(1, name.as_bytes())).collect();
    bytes_field(1, &[inputs, bytes_field(2, output.as_bytes()), bytes_field(4, op.as_bytes())].concat())
}

/// The graph y = Relu(x).
fn relu() -> Vec<u8> {
    [graph_ends(), node("Relu", &["x"], "y")].concat()
}

/// The graph y = Custom(x) of a node with more fields.
fn one_node(fields: &[u8]) -> Vec<u8> {
    let message = [bytes_field(1, b"x"), bytes_field(2, b"y"), bytes_field(4, b"Sum"), fields.to_vec()].concat();
    [graph_ends(), bytes_field(1, &message)].concat()
}

/// An attribute of many integers.
fn packed_ints(count: usize) -> Vec<u8> {
    [bytes_field(1, b"axes"), varint_field(20, 7), packed(8, count)].concat()
}

/// A chain of nodes from `x` to `y`.
fn chain(length: usize, link: fn(&str, &str) -> Vec<u8>) -> Vec<u8> {
    let name = |at: usize| match at {
        0 => "x".to_owned(),
        at if at == length => "y".to_owned(),
        at => format!("v{at}"),
    };
    let links: Vec<u8> = (0..length).flat_map(|at| link(&name(at), &name(at + 1))).collect();
    [graph_ends(), links].concat()
}

/// Nodes in a ring, and one behind it that computes `y`.
fn cycle(length: usize) -> Vec<u8> {
    let ring: Vec<u8> =
        (0..length).flat_map(|at| node("Relu", &[&format!("v{at}")], &format!("v{}", (at + 1) % length))).collect();
    [graph_ends(), ring, node("Relu", &["v0"], "y")].concat()
}

/// A node whose attribute holds a graph with such a node, and so on.
fn nested_graphs(depth: usize) -> Vec<u8> {
    // Built from the inside out without copying: the heads are collected and turned around.
    let mut parts: Vec<Vec<u8>> = vec![relu()];
    let mut length = parts[0].len();
    for _ in 0..depth {
        for field in [6_u64, 5, 1] {
            let head = [number(field << 3 | 2), number(length as u64)].concat();
            length += head.len();
            parts.push(head);
        }
    }
    parts.reverse();
    [graph_ends(), parts.concat()].concat()
}

/// An attribute that holds a graph of many nodes, among them many with graphs of their own.
fn wide_body() -> Vec<u8> {
    let inner = bytes_field(5, &bytes_field(6, &relu()));
    let holder = bytes_field(1, &[bytes_field(1, b"x"), bytes_field(4, b"If"), inner].concat());
    let nodes: Vec<u8> = (0..5000).flat_map(|at| node("Relu", &["x"], &format!("v{at}"))).collect();
    bytes_field(6, &[graph_ends(), nodes, holder.repeat(3000)].concat())
}

/// A model of operator set 6 with this graph.
fn old_model(graph: &[u8]) -> Vec<u8> {
    [varint_field(1, 3), bytes_field(8, &varint_field(2, 6)), bytes_field(7, graph)].concat()
}

/// Constants of zeros, and a sum of them all.
fn zeros(count: usize, elements: u64) -> Vec<u8> {
    let shape =
        bytes_field(5, &[varint_field(1, 1), varint_field(2, 7), varint_field(7, elements), name("s")].concat());
    let made: Vec<u8> = (0..count).flat_map(|at| node("ConstantOfShape", &["s"], &format!("v{at}"))).collect();
    let names: Vec<String> = (0..count).map(|at| format!("v{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["x"]).collect();
    [graph_ends(), shape, made, node("Sum", &names, "y")].concat()
}

/// `TensorProto.name`
fn name(name: &str) -> Vec<u8> {
    bytes_field(8, name.as_bytes())
}

/// An initializer `w` of bytes that are all zero.
fn weight(dims: &[u64], data_type: u64, bytes: usize) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| varint_field(1, *dim)).collect();
    bytes_field(5, &[dims, varint_field(2, data_type), name("w"), bytes_field(9, &vec![0; bytes])].concat())
}

/// A square matrix times itself, over and over.
fn products(count: usize, side: u64) -> Vec<u8> {
    let weight = weight(&[side, side], 1, (4 * side * side) as usize);
    let first = node("MatMul", &["w", "w"], "v0");
    let rest: Vec<u8> =
        (1..count).flat_map(|at| node("MatMul", &[&format!("v{}", at - 1), "w"], &format!("v{at}"))).collect();
    [graph_ends(), weight, first, rest, node("MatMul", &["x", &format!("v{}", count - 1)], "y")].concat()
}

/// Nodes that read the same constant and make little of it.
fn readers(count: usize, elements: u64) -> Vec<u8> {
    let sizes: Vec<u8> = (0..count).flat_map(|at| node("ReduceMax", &["w"], &format!("v{at}"))).collect();
    [graph_ends(), weight(&[elements], 1, 4 * elements as usize), sizes, node("Add", &["x", "v0"], "y")].concat()
}

/// Many values that are joined to one result.
fn joined(count: usize) -> Vec<u8> {
    let made: Vec<u8> = (0..count).flat_map(|at| node("Sigmoid", &["x"], &format!("v{at}"))).collect();
    let names: Vec<String> = (0..count).map(|at| format!("v{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    [graph_ends(), made, node("Concat", &names, "y")].concat()
}

/// Products of which each is an operand of a link of one chain.
fn led_into_chain(count: usize) -> Vec<u8> {
    let name = |at: usize| if at == count { "y".to_owned() } else { format!("r{at}") };
    let link = |at: usize| {
        let (product, before) = (format!("v{at}"), if at == 0 { "x".to_owned() } else { name(at) });
        [node("MatMul", &["x", "w"], &product), node("Reshape", &[&before, &product], &name(at + 1))].concat()
    };
    let links: Vec<u8> = (0..count).flat_map(link).collect();
    [graph_ends(), weight(&[2, 2], 1, 16), links].concat()
}

/// One value that many nodes make results of.
fn passed_on(count: usize) -> Vec<u8> {
    let made: Vec<u8> = (0..count).flat_map(|at| node("Sigmoid", &["v"], &format!("v{at}"))).collect();
    let results: Vec<u8> = (0..count).flat_map(|at| bytes_field(12, &value(&format!("v{at}")))).collect();
    [graph_ends(), results, node("Relu", &["x"], "v"), node("Relu", &["v"], "y"), made].concat()
}

/// Additions of one vector to the channels of a value.
fn old_additions(count: usize) -> Vec<u8> {
    let dims: Vec<u8> = [1, 4096, 2, 2].iter().flat_map(|dim| bytes_field(1, &varint_field(1, *dim))).collect();
    let tensor = [varint_field(1, 1), bytes_field(2, &dims)].concat();
    let input = bytes_field(11, &[value("x"), bytes_field(2, &bytes_field(1, &tensor))].concat());
    let int = |name: &str| {
        bytes_field(5, &[bytes_field(1, name.as_bytes()), varint_field(3, 1), varint_field(20, 2)].concat())
    };
    let add = |at: usize| {
        let output = if at == 0 { "y".to_owned() } else { format!("v{at}") };
        let names = [bytes_field(1, b"x"), bytes_field(1, b"w"), bytes_field(2, output.as_bytes())].concat();
        bytes_field(1, &[names, bytes_field(4, b"Add"), int("broadcast"), int("axis")].concat())
    };
    let additions: Vec<u8> = (0..count).flat_map(add).collect();
    [input, bytes_field(12, &value("y")), weight(&[4096], 1, 4 * 4096), additions].concat()
}

fn many_outputs(count: usize) -> Vec<u8> {
    [graph_ends(), bytes_field(12, &value("y")).repeat(count), node("Relu", &["x"], "y")].concat()
}

fn many_long_names() -> Vec<u8> {
    let name = "n".repeat(MANY);
    let described = bytes_field(13, &value(&name)).repeat(25);
    [relu(), described, node(&name, &["x"], "z").repeat(25)].concat()
}

/// `GraphProto.initializer` of floats with dimensions and no elements.
fn initializer(dims: &[u64]) -> Vec<u8> {
    bytes_field(5, &[tensor(dims), bytes_field(8, b"w")].concat())
}

/// `TensorProto` of floats with dimensions and no elements.
fn tensor(dims: &[u64]) -> Vec<u8> {
    let mut numbers = Vec::new();
    dims.iter().for_each(|dim| varint(&mut numbers, *dim));
    [bytes_field(1, &numbers), varint_field(2, 1)].concat()
}

/// An array of no elements with this shape in its header.
fn array(shape: &str) -> Vec<u8> {
    array_file(2, &format!("{{'descr': '<f4', 'fortran_order': True, 'shape': {shape}, }}"), &[])
}

/// A network whose input has this shape.
fn caffe_net(shape: &[&str]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("dim: {dim} ")).collect();
    let relu = "layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }";
    format!("layer {{ name: 'x' type: 'Input' top: 'x' input_param {{ shape {{ {dims}}} }} }}\n{relu}").into_bytes()
}

/// A chain of layers.
fn caffe_chain(length: usize) -> Vec<u8> {
    let first = "layer { name: 'v0' type: 'Input' top: 'v0' input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n";
    let link = |at: usize| format!("layer {{ name: 'v{0}' type: 'ReLU' bottom: 'v{at}' top: 'v{0}' }}\n", at + 1);
    (0..length).fold(first.to_owned(), |text, at| text + &link(at)).into_bytes()
}
