"""A detector as an ONNX model, and what operations that ONNX says otherwise become."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.config.checks import extra
from aejax.core import steps
from aejax.core.programs import symbolic_rows
from aejax.detection.detector import Detector
from aejax.exporting import parity
from aejax.exporting.onnx_graph import OPSET, Graph, Operation, Tensor, Value

TOLERANCE = 1e-5
ROWS, SCORE, FLAG = "rows", "score", "is_anomaly"
# Members are written one after the other.
MOST_MEMBERS = 64


def _broadcast_in_dim(graph: Graph, equation: Any, x: Value, *_: Value) -> Tensor:
    shape = equation.outvars[0].aval.shape
    kept = equation.params["broadcast_dimensions"]
    before = x.shape
    if isinstance(x, Tensor):
        sizes = [1] * len(shape)
        for axis, size in zip(kept, before, strict=True):
            sizes[axis] = size if isinstance(size, int) else -1
        if not x.whole:
            x = dataclasses.replace(x, name=graph.whole(x))
        name = x.name if len(before) == len(shape) else graph.reshaped(x.name, sizes)
    else:
        sizes = [1] * len(shape)
        for axis, size in zip(kept, before, strict=True):
            sizes[axis] = size
        name = graph.name(np.reshape(x, sizes))
    same = len(before) == len(shape) and all(
        a is b or a == b for a, b in zip(before, shape, strict=True)
    )
    return graph.result(name, equation, whole=same)


def _reshape(graph: Graph, equation: Any, x: Value, *_: Value) -> Tensor:
    shape = equation.outvars[0].aval.shape
    return graph.result(graph.reshaped(graph.whole(x), shape), equation)


def _transpose(graph: Graph, equation: Any, x: Value) -> Tensor:
    order = list(equation.params["permutation"])
    return graph.result(graph.node("Transpose", [graph.whole(x)], perm=order), equation)


def _convert_element_type(graph: Graph, equation: Any, x: Value) -> Tensor:
    with extra("onnx"):
        from onnx import helper

    wanted = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    name = graph.node("Cast", [graph.name(x)], to=wanted)
    return graph.like(name, equation, [x])


def _square(graph: Graph, equation: object, x: Value) -> Tensor:
    name = graph.name(x)
    return graph.like(graph.node("Mul", [name, name]), equation, [x])


def _integer_pow(graph: Graph, equation: Any, x: Value) -> Tensor:
    power, name = equation.params["y"], graph.name(x)
    if power < 1:
        raise InputError(f"the model has the power {power}; allowed for ONNX: at least 1")
    result = name
    for _ in range(power - 1):
        result = graph.node("Mul", [result, name])
    return graph.like(result, equation, [x])


def _rsqrt(graph: Graph, equation: object, x: Value) -> Tensor:
    name = graph.node("Reciprocal", [graph.node("Sqrt", [graph.name(x)])])
    return graph.like(name, equation, [x])


def _log1p(graph: Graph, equation: object, x: Value) -> Tensor:
    one = graph.constant(np.float32(1))
    return graph.like(graph.node("Log", [graph.node("Add", [graph.name(x), one])]), equation, [x])


def _ne(graph: Graph, equation: object, x: Value, y: Value) -> Tensor:
    name = graph.node("Not", [graph.node("Equal", [graph.name(x), graph.name(y)])])
    return graph.like(name, equation, [x, y])


def _select_n(graph: Graph, equation: object, which: Value, no: Value, yes: Value) -> Tensor:
    names = [graph.name(which), graph.name(yes), graph.name(no)]
    return graph.like(graph.node("Where", names), equation, [which, yes, no])


def _concatenate(graph: Graph, equation: Any, *parts: Value) -> Tensor:
    names = [graph.whole(part) for part in parts]
    axis = equation.params["dimension"]
    return graph.result(graph.node("Concat", names, axis=axis), equation)


def _gather(graph: Graph, equation: Any, x: Value, places: Value) -> Tensor:
    """Whole slices at places that are known: what a strided slice becomes."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    picked = tuple(numbers.start_index_map)
    others = [axis for axis in range(len(x.shape)) if axis not in picked]
    plain = (
        not (numbers.operand_batching_dims or numbers.start_indices_batching_dims)
        and tuple(numbers.collapsed_slice_dims) == tuple(sorted(picked))
        and all(sizes[axis] == 1 for axis in picked)
        and all(sizes[axis] == x.shape[axis] for axis in others)
    )
    limits = [x.shape[axis] for axis in picked]
    if (
        not plain
        or isinstance(places, Tensor)
        or not ((places >= 0) & (places < np.array(limits))).all()
    ):
        raise InputError(
            "the model looks values up by what a row holds, which the ONNX export does not "
            "know; allowed: --format stablehlo"
        )
    front = graph.node("Transpose", [graph.whole(x)], perm=[*picked, *others])
    gathered = graph.node("GatherND", [front, graph.constant(np.asarray(places, np.int64))])
    # The places come first here; there, the axes of slices stand where offset_dims says.
    rank = len(equation.outvars[0].aval.shape)
    first = iter(range(rank - len(others)))
    slices = iter(range(rank - len(others), rank))
    order = [next(slices if axis in numbers.offset_dims else first) for axis in range(rank)]
    return graph.result(graph.node("Transpose", [gathered], perm=order), equation)


def _stack(graph: Graph, equation: Any, *parts: Value) -> Tensor:
    axis = equation.params["axis"]
    where = graph.constant(np.array([axis], np.int64))
    names = [graph.node("Unsqueeze", [graph.whole(part), where]) for part in parts]
    return graph.result(graph.node("Concat", names, axis=axis), equation)


def _dot_general(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    (over_x, over_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    rank_x, rank_y = len(x.shape), len(y.shape)
    names = [graph.whole(x), graph.whole(y)]
    if not batch_x and rank_y == 2 and tuple(over_y) == (0,) and tuple(over_x) == (rank_x - 1,):
        return graph.result(graph.node("MatMul", names), equation)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(letters) for _ in range(rank_x)]
    right = [next(letters) for _ in range(rank_y)]
    for a, b in (*zip(over_x, over_y, strict=True), *zip(batch_x, batch_y, strict=True)):
        right[b] = left[a]
    out = [left[a] for a in batch_x]
    out += [left[a] for a in range(rank_x) if a not in (*over_x, *batch_x)]
    out += [right[b] for b in range(rank_y) if b not in (*over_y, *batch_y)]
    how = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    return graph.result(graph.node("Einsum", names, equation=how), equation)


def _conv_general_dilated(graph: Graph, equation: Any, x: Value, kernel: Value) -> Tensor:
    params = equation.params
    numbers = params["dimension_numbers"]
    if not isinstance(kernel, np.ndarray) or params["batch_group_count"] != 1:
        raise InputError("the model has a computed kernel; allowed for ONNX: a plain one")
    pads = [size for sides in zip(*params["padding"], strict=True) for size in sides]
    groups = params["feature_group_count"]
    up, stride = tuple(params["lhs_dilation"]), tuple(params["window_strides"])
    image = graph.node("Transpose", [graph.whole(x)], perm=list(numbers.lhs_spec))
    weights = np.asarray(kernel, np.float32).transpose(numbers.rhs_spec)
    if set(up) == {1}:
        y = graph.node(
            "Conv",
            [image, graph.constant(weights)],
            strides=list(stride),
            pads=pads,
            dilations=list(params["rhs_dilation"]),
            group=groups,
        )
    elif groups == 1 and set(params["rhs_dilation"]) == {1}:
        y = _conv_transpose(graph, image, weights, up, stride, pads)
    else:
        raise InputError("the model spreads in groups; allowed for ONNX: one of both")
    back = np.argsort(numbers.out_spec).tolist()
    return graph.result(graph.node("Transpose", [y], perm=back), equation)


def _conv_transpose(
    graph: Graph,
    image: str,
    weights: np.ndarray,
    up: tuple[int, ...],
    stride: tuple[int, ...],
    pads: Sequence[int],
) -> str:
    """A convolution over an image spread by zeros: ONNX says it by what the padding removes."""
    if set(stride) != {1}:
        raise InputError("the model spreads and strides at once; allowed for ONNX: one of both")
    sizes = weights.shape[2:] * 2
    left = [size - 1 - pad for size, pad in zip(sizes, pads, strict=True)]
    more = [max(0, -value) for value in left[len(up) :]]
    flipped = np.flip(weights, tuple(range(2, weights.ndim))).swapaxes(0, 1)
    return graph.node(
        "ConvTranspose",
        [image, graph.constant(flipped)],
        strides=list(up),
        pads=[max(0, value) for value in left],
        output_padding=more,
    )


OPERATIONS: dict[str, Operation] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "transpose": _transpose,
    "convert_element_type": _convert_element_type,
    "square": _square,
    "integer_pow": _integer_pow,
    "rsqrt": _rsqrt,
    "log1p": _log1p,
    "ne": _ne,
    "select_n": _select_n,
    "concatenate": _concatenate,
    "gather": _gather,
    "stack": _stack,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv_general_dilated,
    "squeeze": _reshape,
    "expand_dims": _reshape,
}


def checked_model(detector: Detector, edges: parity.Edges) -> tuple[bytes, float, dict[str, Any]]:
    """The detector as `model.onnx`, compared with it in ONNX Runtime.

    The model's input is "rows", [rows, ...]: float32 or uint8; float64 where the schema has an
    offset, which the model subtracts. Its outputs are "score", float32 [rows], and
    "is_anomaly", bool [rows], where the detector has a threshold. A row with a number that is
    missing or infinite has no score: NaN, which is no anomaly.

    Args:
        detector: what to export.
        edges: what it is compared on.

    Returns:
        The file's content, the largest relative difference, and versions, JSON-ready.

    Raises:
        InputError: if ONNX isn't installed, the model has an operation without a counterpart,
            or a score differs by more than 1e-5 and rounding explains.
    """
    if detector.schema.columns is not None:
        raise InputError("the table is mixed; allowed for ONNX: rows of numbers (or stablehlo)")
    with extra("onnx"):
        import onnxruntime
        from onnx import checker
    try:
        model = to_onnx(detector)
        content = model.SerializeToString()
        checker.check_model(model)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except InputError:
        raise
    # Neither the runtime's errors have a common type, nor those of a network that is new to it.
    except Exception as error:
        raise InputError(f"ONNX does not take the model: {str(error)[:200]!r}") from None

    def score(rows: np.ndarray) -> np.ndarray:
        scores, *flags = session.run(None, {ROWS: rows})
        if flags and not np.array_equal(detector.threshold.flags(scores), flags[0]):  # type: ignore[union-attr]
            raise InputError(
                "the ONNX model flags a row other than its score says. Nothing was exported"
            )
        return np.asarray(scores)

    difference = edges.compare("the ONNX model", score, tolerance=TOLERANCE, slack=10)
    versions = {"opset": model.opset_import[0].version, "onnxruntime": onnxruntime.__version__}
    return bytes(content), difference, versions


def to_onnx(detector: Detector) -> Any:
    """The detector as an `onnx.ModelProto`.

    Raises:
        InputError: naming an operation that has no counterpart.
    """
    with extra("onnx"):
        from onnx import TensorProto, helper

    schema = detector.schema
    graph, size = Graph(ROWS, OPERATIONS), symbolic_rows()
    rows = jax.ShapeDtypeStruct((size, *schema.shape), schema.device_dtype)
    if detector.config.precision != "float32":
        # Another last digit before rounding to 8 bits is another 8th bit after it.
        raise InputError(
            f"Config.precision is {detector.config.precision!r}; allowed for ONNX: 'float32' "
            "(scores would agree to 1e-3 only)"
        )
    if detector.members > MOST_MEMBERS:
        raise InputError(
            f"the ensemble has {detector.members} members; allowed for ONNX: {MOST_MEMBERS}"
        )
    if schema.offset is not None:
        offset = graph.constant(np.array(schema.offset).reshape(schema.shape))
        graph.rows = graph.node("Cast", [graph.node("Sub", [ROWS, offset])], to=TensorProto.FLOAT)
    score = _combined(detector, graph, rows)
    # 0 times what is no number is none: so are then all scores of rows that have no score.
    nothing = graph.constant(np.float32(0))
    parts = [score, graph.node("Mul", [score, nothing])]
    if np.dtype(schema.device_dtype).kind == "f":
        flat = graph.reshaped(graph.rows, [size, schema.features])
        axes = graph.constant(np.array([1], np.int64))
        zeros = graph.node("Mul", [flat, nothing])
        parts.append(graph.node("ReduceSum", [zeros, axes], keepdims=0))
    graph.node("Sum", parts)
    graph.nodes[-1].output[0] = SCORE
    outputs = [helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [ROWS])]
    if detector.threshold_value is not None:
        # In float64, as everywhere: a value between two float32 scores must not round to one.
        exact = graph.node("Cast", [SCORE], to=TensorProto.DOUBLE)
        graph.node("Greater", [exact, graph.constant(np.float64(detector.threshold_value))])
        graph.nodes[-1].output[0] = FLAG
        outputs.append(helper.make_tensor_value_info(FLAG, TensorProto.BOOL, [ROWS]))
    dtype = schema.device_dtype if schema.offset is None else "float64"
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "aejax",
            [helper.make_tensor_value_info(ROWS, kind, [ROWS, *schema.shape])],
            outputs,
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
        producer_name="aejax",
    )
    helper.set_model_props(model, {"detector": detector.fingerprint})
    return model


def _combined(detector: Detector, graph: Graph, rows: jax.ShapeDtypeStruct) -> str:
    """The score of every row; an ensemble's members one after the other, then put together."""

    def score(variables: Any, scaler: Any, x: Any) -> Any:
        return steps.score_rows(scorer, variables, scaler, x)

    if detector.combine == "rank" or "weights" in detector.variables:
        raise InputError(
            "the ensemble combines ranks or its members lack features; allowed in ONNX: mean or "
            "median of whole members (StableHLO takes all)"
        )
    scorer = dataclasses.replace(detector.scoring, combine=None)
    if detector.combine is None:
        return str(graph.add(functools.partial(score, detector.variables, detector.scaler), rows))
    columns = []
    for number in range(detector.members):
        variables, scaler = jax.tree.map(
            lambda leaf, number=number: leaf[number], (detector.variables, detector.scaler)
        )
        columns.append(graph.add(functools.partial(score, variables, scaler), rows))
    if detector.combine == "median":
        columns = _middle(graph, columns)
    return graph.node("Mean", columns)


def _middle(graph: Graph, columns: list[str]) -> list[str]:
    """The middle one of each row's values, or both: put in order by comparing neighbours in turn.

    TopK would say it in one operation, and ended the processes of ONNX Runtime 1.20 to 1.30
    where there were no rows.
    """
    ordered, count = list(columns), len(columns)
    for turn in range(count):
        for at in range(turn % 2, count - 1, 2):
            pair = ordered[at : at + 2]
            ordered[at : at + 2] = [graph.node("Min", pair), graph.node("Max", pair)]
    return ordered[(count - 1) // 2 : count // 2 + 1]
