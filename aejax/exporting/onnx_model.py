"""A detector as an ONNX model: rows in, scores out, and flags where there is a threshold."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.config.checks import extra
from aejax.core import steps
from aejax.core.programs import symbolic_rows
from aejax.detection.detector import Detector
from aejax.exporting import parity
from aejax.exporting.onnx_graph import OPSET, Graph
from aejax.exporting.onnx_operations import OPERATIONS

TOLERANCE = 1e-5
ROWS, SCORE, FLAG = "rows", "score", "is_anomaly"
# Members are written one after the other.
MOST_MEMBERS = 64


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
    given = schema.device_dtype if schema.offset is None else "float64"
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(given))
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
