//! The messages of the format as a table: what the text format calls each field, and how the wire format writes it.
//!
//! Only what texts are made of and read to is listed; binary files are read without this table. Numbers and names are
//! those of TensorFlow's published message definitions.

mod function;
mod graph;
mod meta;

pub(crate) use graph::{DATA_TYPES, GRAPH};
pub(crate) use meta::{META_GRAPH, SAVED_MODEL};

/// A message type.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    /// Its fields, by number.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) label: Label,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Fixed64,
    Float,
    Double,
    Bool,
    Enum(&'static [(i32, &'static str)]),
    Text,
    Bytes,
    Message(&'static Message),
}

/// How often a field occurs, and how several values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// At most once.
    One,
    /// Any number of times, each a field of its own.
    Many,
    /// Any number of times, all in one field.
    Packed,
    /// Any number of entries with a key and a value; their order means nothing.
    Map,
}

impl Message {
    /// The field of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::One }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::Many }
}

const fn packed(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, label: Label::Packed }
}

const fn map(number: u32, name: &'static str, entry: &'static Message) -> Field {
    Field { number, name, kind: Kind::Message(entry), label: Label::Map }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every message that can be reached from `from`.
    fn reachable(from: &'static Message, seen: &mut BTreeSet<&'static str>, found: &mut Vec<&'static Message>) {
        // Entries of maps have no name of their own and are no end of a circle.
        if !from.name.is_empty() && !seen.insert(from.name) {
            return;
        }
        found.push(from);
        for field in from.fields {
            if let Kind::Message(inner) = field.kind {
                reachable(inner, seen, found);
            }
        }
    }

    #[test]
    fn fields_are_sorted_and_their_names_differ() {
        let mut found = Vec::new();
        reachable(&SAVED_MODEL, &mut BTreeSet::new(), &mut found);
        assert!(found.len() > 30, "{}", found.len());
        for message in found {
            assert!(message.fields.is_sorted_by(|a, b| a.number < b.number), "{}", message.name);
            let names: BTreeSet<&str> = message.fields.iter().map(|field| field.name).collect();
            assert_eq!(names.len(), message.fields.len(), "{}", message.name);
        }
    }

    #[test]
    fn entries_of_maps_have_a_key_and_a_value() {
        let mut found = Vec::new();
        reachable(&SAVED_MODEL, &mut BTreeSet::new(), &mut found);
        for field in found.iter().flat_map(|message| message.fields).filter(|field| field.label == Label::Map) {
            let Kind::Message(entry) = field.kind else { panic!("{} is no map", field.name) };
            let names: Vec<_> = entry.fields.iter().map(|field| (field.number, field.name)).collect();
            assert_eq!(names, [(1, "key"), (2, "value")], "{}", field.name);
        }
    }
}
