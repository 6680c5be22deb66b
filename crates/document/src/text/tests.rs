//! Tests of the text format: grammar, errors, spans and edits.

use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;

fn parse(text: impl AsRef<[u8]>) -> Result<TextDocument, DocumentError> {
    TextDocument::parse(SourceFile::from_bytes("net.prototxt", text.as_ref().to_vec()), &Limits::default())
}

fn root(text: &str) -> Message {
    parse(text).unwrap().root().clone()
}

fn value(text: &str) -> Scalar {
    root(&format!("v: {text}")).scalar("v").unwrap().clone()
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn a_net_becomes_a_tree() {
    let net = root(
        "name: \"net\"\nlayer { name: 'a' type: \"ReLU\" relu_param: < negative_slope: .1f > }\nlayer{name:\"b\"}",
    );
    assert_eq!(net.scalar("name").and_then(Scalar::as_str), Some("net"));
    let names: Vec<_> = net.messages("layer").filter_map(|l| l.scalar("name")?.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let relu = net.messages("layer").next().unwrap().merged("relu_param").unwrap();
    assert_eq!(relu.scalar("negative_slope").and_then(Scalar::as_f32), Some(0.1));
}

#[test]
fn separators_comments_line_ends_and_a_byte_order_mark_are_accepted() {
    let net = root("\u{feff}# a net\r\na: 1, b: 2; c { d: 3, } # end\r\ne { } , f <>\r\n");
    let names: Vec<&str> = net.fields().iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "e", "f"]);
    assert!(parse(b"# caf\xe9\na: 1").is_ok(), "comments of any encoding");
    assert!(root("").fields().is_empty() && root(" # nothing").fields().is_empty());
    assert_eq!(root("[some.extension/x] { a: 1 }").fields()[0].name, "[some.extension/x]");
}

#[test]
fn integers_in_every_base() {
    let cases = [("12", 12), ("-3", -3), ("- 3", -3), ("0x1F", 31), ("017", 15), ("0", 0), ("-0x10", -16)];
    for (text, expected) in cases {
        assert_eq!(value(text).as_i64(), Some(expected), "{text}");
    }
    assert_eq!(value("9223372036854775808").as_i64(), None);
    assert_eq!(value("-9223372036854775808").as_i64(), Some(i64::MIN));
    assert_eq!(value("18446744073709551615").as_u64(), Some(u64::MAX));
    for text in ["1.5", "1e2", "'1'", "x", "-1"] {
        assert_eq!(value(text).as_u64(), None, "{text}");
    }
}

#[test]
fn floats_in_every_spelling() {
    let cases = [
        ("1", 1.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-4", 1e-4),
        ("1E+2", 100.0),
        ("2.5f", 2.5),
        ("3F", 3.0),
        ("0x10", 16.0),
        ("1e60", f32::INFINITY),
        ("inf", f32::INFINITY),
        ("-Infinity", f32::NEG_INFINITY),
        ("0.000050000002", 0.000_050_000_002),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text).as_f32(), Some(expected), "{text}");
    }
    assert!(value("nan").as_f32().is_some_and(f32::is_nan) && value("-nan").as_f64().is_some_and(f64::is_nan));
    assert_eq!(value("info").as_f32(), None);
    assert_eq!(value("'1.5'").as_f32(), None, "a quoted number is a text");
}

#[test]
fn texts_words_and_truth_values() {
    assert_eq!(value(r#""a\tb\"\'\\\x41\101\u00e9\n""#).as_str(), Some("a\tb\"'\\AA\u{e9}\n"));
    assert_eq!(value("'a' \"b\"\n# between\n'c'").as_str(), Some("abc"));
    assert_eq!(value("MAX").as_str(), Some("MAX"));
    assert_eq!(value("185").as_str(), Some("185"), "names without quotes exist");
    assert_eq!(value(r#""\377""#).as_str(), None);
    assert_eq!(value(r#""\377""#).bytes(), [255]);
    for (text, expected) in [("true", Some(true)), ("f", Some(false)), ("1", Some(true)), ("'false'", Some(false))] {
        assert_eq!(value(text).as_bool(), expected, "{text}");
    }
    assert_eq!(value("2").as_bool(), None);
    assert_eq!(value("-1").as_bool(), None);
}

#[test]
fn the_short_form_is_a_repeated_field() {
    let net = root("dim: [1, 3,\n 224] dim: 5 empty: [] layer [{ name: 'a' }, < name: 'b' >]");
    let dims: Vec<_> = net.scalars("dim").filter_map(Scalar::as_i64).collect();
    assert_eq!(dims, [1, 3, 224, 5]);
    assert_eq!(net.values("empty").count(), 0);
    assert_eq!(net.messages("layer").count(), 2);
    for text in ["a: [1", "a: [1,]", "a: [1 2]", "a: [[1]]", "a [1]"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn of_scalars_the_last_counts_and_messages_merge() {
    let net = root("a: 1 p { x: 1 y: 2 z: 1 } a: 2 p { x: 3 z: 2 }");
    assert_eq!(net.scalar("a").and_then(Scalar::as_i64), Some(2));
    let merged = net.merged("p").unwrap();
    let number = |name| merged.scalar(name).and_then(Scalar::as_i64);
    assert_eq!((number("x"), number("y")), (Some(3), Some(2)));
    assert_eq!(merged.scalars("z").count(), 2);
    assert!(net.merged("a").is_none() && net.scalar("p").is_none() && net.merged("absent").is_none());
}

#[test]
fn errors_name_line_column_what_was_found_and_what_was_expected() {
    let cases = [
        ("a: 1\n  b 2", "net.prototxt: line 2, column 5: found `2`, expected `:`, `{` or `<`"),
        ("a {\n b: 1\n", "line 3, column 1: the text ends inside `a`, which begins at line 1; expected `}`"),
        ("a < b: 1 }", "line 1, column 10: found `}`, expected a field name or `>`"),
        ("}", "line 1, column 1: found `}`, expected a field name"),
        ("é: 1", "found `é`, expected a field name"),
        ("a: ", "line 1, column 4: found the end of the text, expected a value"),
        ("a: \"x\nb: 1", "line 1, column 4: the string is not closed on its line"),
        ("a: \"é\\q\"", "line 1, column 6: `\\q` is no escape sequence"),
        ("a: \"\\x\"", "is no escape sequence"),
        ("a: \"\\400\"", "is no escape sequence"),
        ("a: \"\\ud800\"", "is no escape sequence"),
        ("a: 5abc", "column 4: found `5abc`, expected a number"),
        ("a: 1.2.3", "found `1.2.3`, expected a number"),
        ("a: -x", "found `x`, expected a number"),
        ("a: -", "found the end of the text, expected a number"),
        ("a: 1,, b: 2", "column 6: found `,`, expected a field name"),
        ("a: \u{0}", "found the byte 0x00, expected a value"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        assert!(message.contains(expected), "{text:?}: {message}");
    }
    let error = parse("a {").expect_err("unclosed");
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.hint().is_some() && error.path().is_some());
}

#[test]
fn limits_bound_depth_and_numbers_of_fields_and_values() {
    let limits = Limits { max_nesting: 2, max_items: 4, ..Limits::default() };
    let parse = |text: &str| TextDocument::parse(SourceFile::from_bytes("x", text.as_bytes().to_vec()), &limits);
    assert!(parse("a { b { c: 1 } }").is_ok());
    let deep = parse("a { b { c { } } }").expect_err("deep");
    assert!(deep.to_string().contains("nested more than 2 levels") && deep.kind() == ErrorKind::Limits, "{deep}");
    assert!(parse("a: [1, 2, 3] b: 4").is_ok());
    assert!(parse("a: [1, 2, 3] b { c: 4 }").is_err());
    assert!(parse("a: [] a: [] a: [] a: []").is_ok());
    let many = parse("a: [] a: [] a: [] a: [] a: []").expect_err("five fields");
    assert!(many.to_string().contains("more than 4 fields") && many.kind() == ErrorKind::Limits, "{many}");
    assert!(super::tests::parse("a {".repeat(1_000_000)).is_err(), "no stack is deep enough for this");
}

#[test]
fn spans_are_the_bytes_of_the_parts() {
    let text = "x: 1 layer { top: 'a' \"b\" }; y < z: - 5 >";
    let document = parse(text).unwrap();
    let [_, layer, y] = document.root().fields() else { panic!("three fields") };
    assert_eq!(&text[layer.span.clone()], "layer { top: 'a' \"b\" }");
    assert_eq!(&text[layer.name_span.clone()], "layer");
    assert_eq!(&text[layer.values[0].span()], " top: 'a' \"b\" ");
    let top = &layer.values[0].message().unwrap().fields()[0];
    assert_eq!((&text[top.span.clone()], &text[top.values[0].span()]), ("top: 'a' \"b\"", "'a' \"b\""));
    let z = y.values[0].message().unwrap().scalar("z").unwrap();
    assert_eq!((&text[y.span.clone()], &text[z.span()]), ("y < z: - 5 >", "- 5"));
    assert_eq!(document.line(0), 1);
}

const NET: &str =
    "name: 'n' # net\r\nlayer {\r\n  name: 'bn'\r\n}\r\nlayer { name: 'conv' bottom: \"bn\" } layer { }\n";

fn edited(edit: impl FnOnce(&Message, &mut TextSplice<'_>) -> Result<(), DocumentError>) -> String {
    let document = parse(NET).unwrap();
    let mut splice = document.splice();
    edit(document.root(), &mut splice).unwrap();
    String::from_utf8(splice.to_vec()).unwrap()
}

#[test]
fn a_block_goes_with_its_lines() {
    let layer = |root: &Message, index: usize| root.fields_named("layer").nth(index).unwrap().span.clone();
    assert_eq!(
        edited(|root, s| s.remove_lines(layer(root, 0))),
        "name: 'n' # net\r\nlayer { name: 'conv' bottom: \"bn\" } layer { }\n"
    );
    let kept = "name: 'n' # net\r\nlayer {\r\n  name: 'bn'\r\n}\r\n";
    assert_eq!(edited(|root, s| s.remove_lines(layer(root, 1))), format!("{kept} layer {{ }}\n"));
    assert_eq!(
        edited(|root, s| s.remove_lines(layer(root, 2))),
        format!("{kept}layer {{ name: 'conv' bottom: \"bn\" }} \n")
    );
    let whole = parse("a: 1,").unwrap();
    let mut splice = whole.splice();
    splice.remove_lines(whole.root().fields()[0].span.clone()).unwrap();
    assert_eq!(splice.to_vec(), b"");
}

#[test]
fn values_are_replaced_and_fields_inserted() {
    let text = edited(|root, s| {
        let conv = root.messages("layer").nth(1).unwrap();
        s.replace(conv.scalar("bottom").unwrap().span(), "\"data\"")?;
        s.insert(conv.span().start, " bias_term: true")?;
        s.insert(conv.span().start, " x: 1")
    });
    assert!(text.ends_with("layer { bias_term: true x: 1 name: 'conv' bottom: \"data\" } layer { }\n"), "{text}");
}

#[test]
fn edits_that_overlap_or_lie_outside_are_refused() {
    let mut splice = TextSplice::new(b"0123456789");
    splice.replace(2..5, "x").unwrap();
    for span in [2..5, 1..3, 4..6, 3..4, 0..9] {
        assert!(splice.replace(span.clone(), "y").is_err(), "{span:?}");
    }
    assert!(splice.insert(3, "y").is_err());
    splice.insert(2, "<").unwrap();
    splice.insert(5, ">").unwrap();
    splice.remove(5..6).unwrap();
    splice.remove(0..2).unwrap();
    assert!(splice.remove(9..11).is_err() && splice.insert(11, "").is_err());
    #[expect(clippy::reversed_empty_ranges)]
    let backwards = splice.remove(9..8);
    assert!(backwards.is_err());
    assert_eq!(splice.to_vec(), b"<x>6789");
    splice.insert(8, "z").unwrap();
    assert!(splice.remove(7..9).is_err(), "something was put inside");
}

/// Text that is nearly a net.
fn nearly_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("layer {"),
        Just("}"),
        Just("<"),
        Just(">"),
        Just("name:"),
        Just("a"),
        Just(":"),
        Just("["),
        Just("]"),
        Just(","),
        Just("'x'"),
        Just("\""),
        Just("\\"),
        Just("-"),
        Just("1.5"),
        Just("0x"),
        Just("#"),
        Just("\n"),
        Just("\\777"),
        Just("\\U0010ffff"),
        Just("é"),
        Just(";"),
        Just(" "),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check_spans(message: &Message, text: &[u8]) -> Result<(), TestCaseError> {
    let mut end = 0;
    for field in message.fields() {
        prop_assert!(field.span.start >= end && field.span.end <= text.len());
        prop_assert!(field.name_span.start == field.span.start && field.name_span.end <= field.span.end);
        end = field.span.end;
        for value in &field.values {
            prop_assert!(value.span().start >= field.span.start && value.span().end <= field.span.end);
            value.message().map_or(Ok(()), |message| check_spans(message, text))?;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(bytes);
    }

    #[test]
    fn spans_lie_in_order_inside_each_other(text in nearly_text()) {
        if let Ok(document) = parse(&text) {
            check_spans(document.root(), text.as_bytes())?;
            prop_assert!(document.splice().is_unchanged());
            prop_assert_eq!(document.splice().to_vec(), text.as_bytes());
        }
    }

    #[test]
    fn a_cut_inside_a_block_is_an_error(length in 0..NET.len()) {
        let root = root(NET);
        let cut = |f: &Field| f.name == "layer" && f.name_span.end <= length && length < f.span.end;
        let inside = root.fields().iter().any(cut);
        let result = parse(&NET[..length]);
        prop_assert!(!inside || result.is_err(), "{length}");
    }

    #[test]
    fn texts_survive_quoting(text: String) {
        let quoted: String = text.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        let parsed = value(&format!("'{quoted}'"));
        prop_assert_eq!(parsed.as_str(), Some(text.as_str()));
    }

    #[test]
    fn numbers_survive_printing(integer: i64, float: f32) {
        prop_assert_eq!(value(&integer.to_string()).as_i64(), Some(integer));
        let parsed = value(&format!("{float:?}")).as_f32();
        prop_assert!(parsed == Some(float) || float.is_nan());
    }

    #[test]
    fn edits_change_their_bytes_only(cuts in prop::collection::btree_set(0..NET.len(), 2..8)) {
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let mut splice = TextSplice::new(NET.as_bytes());
        let mut expected = String::new();
        let mut done = 0;
        for pair in cuts.chunks_exact(2) {
            splice.replace(pair[0]..pair[1], "new").unwrap();
            expected.push_str(&NET[done..pair[0]]);
            expected.push_str("new");
            done = pair[1];
        }
        expected.push_str(&NET[done..]);
        prop_assert_eq!(splice.to_vec(), expected.as_bytes());
    }
}
