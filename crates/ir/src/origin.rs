//! Provenance: which item of the source document a node or constant came from.

/// Key of an item (node, initializer, layer, record) of the source document. The document that issued it is the only
/// one that can interpret it; ids of nodes ascend in document order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(pub u32);

/// Where a node or constant came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the source document.
    Source(DocId),
    /// A pass or a front-end made it.
    Synthesized {
        /// Name of the pass.
        pass: &'static str,
        /// The document items it was made from.
        from: Vec<DocId>,
    },
}

impl Origin {
    /// The document item, if it stands in the source document.
    pub fn source(&self) -> Option<DocId> {
        match self {
            Self::Source(id) => Some(*id),
            Self::Synthesized { .. } => None,
        }
    }

    /// The document items this came from, itself included.
    pub fn documents(&self) -> &[DocId] {
        match self {
            Self::Source(id) => std::slice::from_ref(id),
            Self::Synthesized { from, .. } => from,
        }
    }
}
