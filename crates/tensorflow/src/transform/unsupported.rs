//! Transforms of the original program that are not carried out here, and what to do instead.

/// Names, each with what to do instead.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("backport_concatv2", "its purpose is TensorFlow before 0.12; leave it out"),
    ("backport_tensor_array_v3", "its purpose is TensorFlow before 1.0; leave it out"),
    (
        "fold_batch_norms_algebraic",
        "freeze the graph for inference, then `fold_batch_norms` and `fold_old_batch_norms`",
    ),
    ("fold_moments", "freeze the graph for inference: statistics of a batch have no place in a quantized graph"),
    (
        "fuse_pad_and_conv",
        "the operator it makes has no form on codes; `quantize tf run` takes zeros into convolutions",
    ),
    ("fuse_resize_and_conv", "the operator it makes has no form on codes; leave it out"),
    ("fuse_resize_pad_and_conv", "the operator it makes has no form on codes; leave it out"),
    ("fuse_remote_graph", "it is for a processor of its own; leave it out"),
    ("place_remote_graph_arguments", "it is for a processor of its own; leave it out"),
    (
        "quantize_nodes",
        "use `quantize tf eightbit --intel_cpu_eightbitize=False`, which makes operators on unsigned codes",
    ),
    ("remove_ema", "freeze with `quantize tf freeze --use_ema`"),
    ("sparsify_gather", "tables of embeddings stay as they are; leave it out"),
];
