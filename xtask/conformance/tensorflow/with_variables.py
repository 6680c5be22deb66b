"""Makes variables of a frozen GraphDef's constants of real numbers, and a checkpoint of their values by TensorFlow.

Constants of one axis or more become VariableV2, read through an Identity NAME/read. The graph goes to a text file, the
checkpoint to the prefix.

JSON: {"variables": count}.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from google.protobuf import text_format

v1 = tf.compat.v1


def values(graph_def: v1.GraphDef) -> dict:
    """The constants of real numbers, by name."""
    tensors = {n.name: n.attr["value"].tensor for n in graph_def.node if n.op == "Const"}
    is_variable = lambda t: t.dtype == tf.float32.as_datatype_enum and len(t.tensor_shape.dim) > 0
    return {name: tf.make_ndarray(tensor) for name, tensor in tensors.items() if is_variable(tensor)}


def with_variables(graph_def: v1.GraphDef, names: set[str]) -> v1.GraphDef:
    result = v1.GraphDef(versions=graph_def.versions)
    for node in graph_def.node:
        if node.name not in names:
            added = result.node.add()
            added.CopyFrom(node)
            added.input[:] = [f"{name}/read" if name in names else name for name in node.input]
            continue
        variable = result.node.add(name=node.name, op="VariableV2")
        variable.attr["dtype"].type = tf.float32.as_datatype_enum
        variable.attr["shape"].shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
        read = result.node.add(name=f"{node.name}/read", op="Identity", input=[node.name])
        read.attr["T"].type = tf.float32.as_datatype_enum
    return result


def save(constants: dict, prefix: Path) -> None:
    with tf.Graph().as_default():
        variables = [v1.Variable(value, name=name, use_resource=False) for name, value in constants.items()]
        saver = v1.train.Saver({variable.op.name: variable for variable in variables})
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            saver.save(session, str(prefix), write_meta_graph=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the graph with variables (.pbtxt)")
    parser.add_argument("--checkpoint", type=Path, required=True, help="prefix of the checkpoint")
    args = parser.parse_args()

    graph_def = v1.GraphDef.FromString(args.graph.read_bytes())
    constants = values(graph_def)
    args.out.write_text(text_format.MessageToString(with_variables(graph_def, set(constants))))
    save(constants, args.checkpoint)
    print(json.dumps({"variables": len(constants)}))


if __name__ == "__main__":
    main()
