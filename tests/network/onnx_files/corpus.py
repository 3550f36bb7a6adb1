"""Damaged and malicious ONNX files, each by the function that writes it.

Every function gets a folder, writes what it needs, and returns the file; beside it stand words that
the error must contain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.onnx_models import graph


@dataclass(frozen=True)
class Case:
    """A file that is written into a folder, and what its error says."""

    write: Callable[[Path], Path]
    says: str


CORPUS = {}

RNG = np.random.default_rng(0)


def case(says):
    def keep(function):
        CORPUS[function.__name__] = Case(function, says)
        return function

    return keep


def nodes():
    """A quantized classifier, small: convolution, flatten, linear."""
    f, u, i8 = np.float32, np.uint8, np.int8
    stored = {
        "s": f(0.02),
        "z": u(100),
        "w": RNG.integers(-100, 100, (4, 3, 3, 3)).astype(i8),
        "ws": np.full(4, 0.001, f),
        "wz": np.zeros(4, i8),
        "v": RNG.integers(-100, 100, (4, 144)).astype(i8),
        "vs": f(0.001),
        "vz": i8(0),
    }
    made = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("DequantizeLinear", ["w", "ws", "wz"], ["wd"], {"axis": 0}),
        ("Conv", ["d", "wd"], ["c"], {"kernel_shape": [3, 3]}),
        ("QuantizeLinear", ["c", "s", "z"], ["cq"], {}),
        ("DequantizeLinear", ["cq", "s", "z"], ["cd"], {}),
        ("Flatten", ["cd"], ["f"], {"axis": 1}),
        ("DequantizeLinear", ["v", "vs", "vz"], ["vd"], {}),
        ("Gemm", ["f", "vd"], ["y"], {"transB": 1}),
    ]
    return made, stored


def model(change=None, **about):
    """The classifier, changed."""
    made, stored = nodes()
    if change is not None:
        change(made, stored)
    return graph(made, stored, **about)


def write(folder, made, name="bad.onnx"):
    path = folder / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def initializer(made, name):
    return next(i for i in made.graph.initializer if i.name == name)


def external(made, name, location, **more):
    """Say that a weight is kept elsewhere."""
    tensor = initializer(made, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return made


@case("which is not there")
def data_under_a_name_that_is_no_text(folder):
    made = external(model(), "ws", "data_of_w.bin").SerializeToString()
    return write(folder, made.replace(b"data_of_w.bin", b"data_\xff\xfe_w.bin"))


@case("initializer 'ws': its data have an impossible name, 'w")
def data_under_a_name_that_ends_early(folder):
    return write(folder, external(model(), "ws", "w\0.bin"))


@case("initializer 'ws': its data have an impossible name, 'w")
def data_under_too_long_a_name(folder):
    return write(folder, external(model(), "ws", "w" * 300))


@case("initializer 'ws': sizes that no weight has, [4611686018427387904, 0, 9]")
def sizes_beyond_memory(folder):
    made = model()
    weight = initializer(made, "ws")
    weight.ClearField("raw_data")
    weight.dims[:] = [1 << 62, 0, 9]
    return write(folder, made)


@case("no such file")
def absent(folder):
    return folder / "bad.onnx"


@case("no such file")
def a_folder(folder):
    (folder / "bad.onnx").mkdir()
    return folder / "bad.onnx"


@case("truncated")
def empty(folder):
    return write(folder, b"")


@case("not an ONNX file")
def text(folder):
    return write(folder, b"this is no network at all\n" * 40)


@case("not an ONNX file")
def a_pickle(folder):
    return write(folder, b"\x80\x04cposix\nsystem\n(Vtouch owned\ntR.")


@case("not an ONNX file")
def half_of_it(folder):
    whole = model().SerializeToString()
    return write(folder, whole[: len(whole) // 2])


@case("not an ONNX file")
def without_its_end(folder):
    return write(folder, model().SerializeToString()[:-3])


@case("ONNX")
def zeros_in_the_middle(folder):
    whole = bytearray(model().SerializeToString())
    whole[40:400] = bytes(360)
    return write(folder, bytes(whole))


@case("no text")
def names_that_are_no_text(folder):
    whole = model().SerializeToString()
    return write(folder, whole.replace(b"conv_3", b"\xaf\xafnv_3"))


@case("no nodes")
def no_nodes(folder):
    made = model()
    del made.graph.node[:]
    return write(folder, made)


@case("no output")
def no_outputs(folder):
    made = model()
    del made.graph.output[:]
    return write(folder, made)


@case("'nothing'")
def an_output_that_nobody_makes(folder):
    made = model()
    made.graph.output[0].name = "nothing"
    return write(folder, made)


@case("node 'conv_3' (Conv) reads 'cd'")
def a_cycle(folder):
    def change(made, _):
        made[3] = ("Conv", ["cd", "wd"], ["c"], {"kernel_shape": [3, 3]})

    return write(folder, model(change))


@case("node 'relu_4' (Relu) reads 'r'")
def a_node_that_reads_itself(folder):
    def change(made, _):
        made.insert(4, ("Relu", ["r"], ["r"], {}))

    return write(folder, model(change))


@case("node 'relu_4' (Relu) makes 'c'")
def a_tensor_made_twice(folder):
    def change(made, _):
        made.insert(4, ("Relu", ["d"], ["c"], {}))

    return write(folder, model(change))


@case("'../secret', outside the folder")
def an_external_path_above(folder):
    (folder / "in").mkdir()
    (folder / "secret").write_bytes(bytes(108))
    made = external(model(), "w", "../secret")
    return write(folder / "in", made)


@case("'/etc/passwd', outside")
def an_absolute_external_path(folder):
    return write(folder, external(model(), "w", "/etc/passwd"))


@case("outside the folder")
def an_external_link_that_leads_out(folder):
    (folder / "in").mkdir()
    (folder / "secret").write_bytes(bytes(108))
    (folder / "in" / "weights.bin").symlink_to(folder / "secret")
    return write(folder / "in", external(model(), "w", "weights.bin"))


@case("initializer 'w'")
def external_data_that_are_absent(folder):
    return write(folder, external(model(), "w", "weights.bin"))


@case("108 bytes from 0")
def external_data_that_are_short(folder):
    (folder / "weights.bin").write_bytes(bytes(10))
    return write(folder, external(model(), "w", "weights.bin"))


@case("has 200")
def an_external_offset_behind_the_end(folder):
    (folder / "weights.bin").write_bytes(bytes(200))
    made = external(model(), "w", "weights.bin", offset=1 << 40, length=108)
    return write(folder, made)


@case("initializer 'w'")
def a_negative_external_offset(folder):
    (folder / "weights.bin").write_bytes(bytes(200))
    return write(folder, external(model(), "w", "weights.bin", offset=-8))


@case("no number")
def an_external_offset_that_is_no_number(folder):
    (folder / "weights.bin").write_bytes(bytes(200))
    return write(folder, external(model(), "w", "weights.bin", offset="ten"))


@case("initializer 'w': says 1099511627776x3x3x3")
def a_huge_initializer(folder):
    made = model()
    initializer(made, "w").dims[:] = [1 << 40, 3, 3, 3]
    return write(folder, made)


@case("initializer 'w'")
def sizes_whose_product_overflows(folder):
    made = model()
    initializer(made, "w").dims[:] = [1 << 32, 1 << 32, 1, 1]
    return write(folder, made)


@case("initializer 'w': sizes")
def a_negative_size(folder):
    made = model()
    initializer(made, "w").dims[:] = [-4, -3, 3, 3]
    return write(folder, made)


@case("holds 50")
def weights_that_are_short(folder):
    made = model()
    tensor = initializer(made, "w")
    tensor.raw_data = tensor.raw_data[:50]
    return write(folder, made)


@case("data type 99")
def an_unknown_data_type(folder):
    made = model()
    initializer(made, "w").data_type = 99
    return write(folder, made)


@case("holds text")
def weights_of_text(folder):
    made = model()
    tensor = initializer(made, "ws")
    tensor.CopyFrom(helper.make_tensor("ws", TensorProto.STRING, [4], [b"a"] * 4))
    return write(folder, made)


@case("node 'conv_3' (evil.Conv) is a custom operator")
def a_custom_operator(folder):
    made = model()
    made.graph.node[3].domain, made.graph.node[3].op_type = "evil", "Conv"
    made.opset_import.append(helper.make_opsetid("evil", 1))
    return write(folder, made)


@case("Kaboom")
def an_operator_of_no_opset(folder):
    def change(made, _):
        made[3] = ("Kaboom", ["d", "wd"], ["c"], {})

    return write(folder, model(change))


@case("functions of its own ('Twice')")
def functions_that_multiply(folder):
    made = model()
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    made.functions.append(helper.make_function("ai.onnx", "Twice", ["a"], ["b"], body, opsets))
    return write(folder, made)


@case("node 'forever' (Loop) holds a graph")
def a_loop(folder):
    made = model()
    inner = helper.make_graph([], "body", [], [])
    made.graph.node.insert(0, helper.make_node("Loop", ["", ""], ["n"], name="forever", body=inner))
    return write(folder, made)


@case("node 'constantofshape_0' (ConstantOfShape) has 1,099")
def a_tensor_that_is_made_huge(folder):
    def change(made, stored):
        stored["shape"] = np.array([1 << 20, 1 << 20], np.int64)
        made.insert(0, ("ConstantOfShape", ["shape"], ["huge"], {}))

    return write(folder, model(change))


@case("conv_3")
def shapes_that_contradict(folder):
    def change(_, stored):
        stored["w"] = np.zeros((4, 5, 3, 3), np.int8)

    return write(folder, model(change))


@case("gemm_8")
def too_few_inputs(folder):
    def change(made, _):
        made[8] = ("Gemm", ["f"], ["y"], {"transB": 1})

    return write(folder, model(change))


@case("flatten_6")
def attributes_of_the_wrong_type(folder):
    def change(made, _):
        made[6] = ("Flatten", ["cd"], ["f"], {"axis": "one"})

    return write(folder, model(change))


@case("2 inputs")
def two_inputs(folder):
    made = model()
    more = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 1])
    made.graph.input.append(more)
    return write(folder, made)


@case("quantizelinear_0")
def a_scale_of_zero(folder):
    return write(folder, model(lambda _, s: s.update(s=np.float32(0))))


@case("quantizelinear_0")
def a_scale_that_is_no_number(folder):
    return write(folder, model(lambda _, s: s.update(s=np.float32("nan"))))


@case("dequantizelinear_2")
def a_negative_scale_of_weights(folder):
    def change(_, stored):
        stored["ws"] = np.array([0.1, -0.1, 0.1, 0.1], np.float32)

    return write(folder, model(change))


@case("bad.onnx")
def more_scales_than_outputs(folder):
    def change(_, stored):
        stored["ws"], stored["wz"] = np.full(7, 0.1, np.float32), np.zeros(7, np.int8)

    return write(folder, model(change))


@case("node 'conv_3' (Conv): a bias that is too large")
def weights_whose_sums_overflow(folder):
    def change(made, stored):
        stored["b"] = np.full(4, 1e12, np.float32)
        made[3] = ("Conv", ["d", "wd", "b"], ["c"], {"kernel_shape": [3, 3]})

    return write(folder, model(change))


@case("bad.onnx")
def a_window_larger_than_the_image(folder):
    def change(made, _):
        made[3] = ("Conv", ["d", "wd"], ["c"], {"dilations": [50, 50], "kernel_shape": [3, 3]})

    return write(folder, model(change))


@case("node")
def a_chain_that_is_deeper_than_any_stack(folder):
    def change(made, _):
        chain = [("Sigmoid", [f"n{i}"], [f"n{i + 1}"], {}) for i in range(3000)]
        chain[0] = ("Sigmoid", ["c"], ["n1"], {})
        made[4:4] = chain
        made[3004] = ("QuantizeLinear", ["n3000", "s", "z"], ["cq"], {})

    return write(folder, model(change))


@case("initializer 'v'")
def a_program_in_the_metadata(folder):
    """Data stay data: what stands in the metadata is never looked at; the rest is damaged."""
    made = model()
    made.metadata_props.add(key="__import__('os').system", value="touch owned")
    initializer(made, "v").dims[:] = [4, 143]
    return write(folder, made)


@case("node 'hidden', attribute 'value'")
def an_external_tensor_inside_an_attribute(folder):
    made = model()
    node = helper.make_node("Constant", [], ["k"], name="hidden")
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    node.attribute.append(helper.make_attribute("value", tensor))
    made.graph.node.insert(0, node)
    return write(folder, made)
