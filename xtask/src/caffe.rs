//! Caffe networks made by us: GoogLeNet with random weights, the example of `quantize demo` in Caffe's format, and the
//! fixtures of the test suites. All of them are the same bytes at every run.
//!
//! Reading Caffe networks is the business of `quantize-caffe`.

mod digits;
mod fixtures;
mod googlenet;
mod net;
mod random;

pub(crate) use digits::write as write_digits;
pub(crate) use fixtures::write as write_fixtures;
pub(crate) use googlenet::write as write_googlenet;
