//! Texts that are read, printed and refused.

use super::{encode, print};
use crate::schema::{GRAPH, META_GRAPH, Message};
use quantize_document::{Limits, SourceFile, TextDocument};

fn binary(text: &str, schema: &Message) -> Result<Vec<u8>, String> {
    let limits = Limits::default();
    let tree = TextDocument::parse(SourceFile::from_bytes("g.pbtxt", text.into()), &limits).unwrap();
    encode(tree.root(), schema).map_err(|misfit| format!("{}: {}", misfit.offset, misfit.cause))
}

/// The text that a text is printed as once it is read.
fn again(text: &str) -> String {
    print(&binary(text, &GRAPH).unwrap(), &GRAPH, &Limits::default()).unwrap()
}

#[test]
fn the_canonical_form_is_kept() {
    let text = r#"node {
  name: "c"
  op: "Const"
  input: "^x"
  attr {
    key: "dtype"
    value {
      type: DT_FLOAT
    }
  }
  attr {
    key: "value"
    value {
      tensor {
        dtype: DT_FLOAT
        tensor_shape {
          dim {
            size: -1
          }
        }
        tensor_content: "\000\001\n\"\\\377~"
        float_val: 0.1
        float_val: -0
        float_val: 1e-5
        float_val: inf
        float_val: nan
      }
    }
  }
}
versions {
  producer: 27
}
"#;
    assert_eq!(again(text), text);
}

#[test]
fn other_spellings_mean_the_same() {
    let canonical = "node {\n  name: \"ab\"\n  op: \"A\"\n  attr {\n    key: \"a\"\n    value {\n      list {\n        i: 1\n        i: -2\n      }\n    }\n  }\n  attr {\n    key: \"b\"\n    value {\n      type: DT_INT32\n    }\n  }\n}\n";
    let loose = "node: < op:'A', name: 'a' \"b\"; # comment\n attr { value { type: 3 } key: 'b' } attr { key: 'a' value { list { i: [1, -2] } } } >";
    assert_eq!(again(loose), canonical);
    assert_eq!(again(canonical), canonical);
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    let cases = [
        ("nodes {}", "0: GraphDef has no field `nodes`"),
        ("node { nam: 'x' }", "7: NodeDef has no field `nam`"),
        ("node { name: 3 }", "13: `name`: expected a string of UTF-8"),
        ("node: 'x'", "6: `node`: expected the fields of NodeDef in brackets"),
        ("versions { producer: 3000000000 }", "21: `producer`: expected a 32-bit integer, found `3000000000`"),
        ("node { attr { key: 'T' value { type: DT_FLOOT } } }", "37: `type`: there is no value `DT_FLOOT`"),
        ("node { attr { key: 'T' value { b: maybe } } }", "34: `b`: expected true or false, found `maybe`"),
    ];
    for (text, expected) in cases {
        assert_eq!(binary(text, &GRAPH).unwrap_err(), expected);
    }
}

#[test]
fn a_field_without_a_name_is_not_printed() {
    let error = print(&[0x78, 1], &META_GRAPH, &Limits::default()).unwrap_err();
    assert_eq!(error, "field 15 of MetaGraphDef at byte 0 has no name in text");
    let error = print(&[0x0d, 0, 0, 0, 0], &GRAPH, &Limits::default()).unwrap_err();
    assert!(error.contains("not"), "{error}");
}
