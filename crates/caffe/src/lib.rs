//! The Caffe format: reading a network and its weights into the framework-neutral graph, and writing what the xfDNN
//! runtime takes.
//!
//! What does not live here: executing anything, data, choosing parameters.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
