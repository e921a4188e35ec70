from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aejax
from aejax.config import Combine, InputError, Scale, SuperResolution
from aejax.detection.detector import Detector
from aejax.detection.population import fit_population
from aejax.exporting import onnx_graph
from aejax.exporting.onnx_model import OPERATIONS
from aejax.scoring.inspection import inspect_folder
from tests.plain import plain_config

QUICK = aejax.Train(epochs=1)


def test_without_onnx_nothing_is_written(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime is not installed; allowed: pip install"):
        aejax.export(detector, tmp_path / "out", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def session_of(folder: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )


def export(detector: Detector, folder: Path) -> Any:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    result = aejax.export(detector, folder, formats="onnx")
    others = [name for name in result["files"] if not name.startswith("arrays-")]
    assert others == ["MODEL_CARD.md", "detector.json", "model.onnx"]
    return session_of(folder)


def table(rows: int = 120) -> np.ndarray:
    return np.random.default_rng(0).random((rows, 5)).astype(np.float32)


def dense(**how: Any) -> Detector:
    model = aejax.Dense(hidden=(8, 3), batch_norm=True, activation="gelu", output="sigmoid")
    return aejax.fit(plain_config(model=model, train=QUICK, **how), table())


def images(model: Any) -> Detector:
    x = np.random.default_rng(0).integers(0, 256, (80, 2, 4, 2)).astype(np.uint8)
    return aejax.fit(plain_config(model=model, scale=Scale(kind="unit"), train=QUICK), x)


def ensemble(combine: Combine, members: int) -> Detector:
    configs = [
        plain_config(model=aejax.Dense(hidden=(4,)), train=aejax.Train(epochs=1, seed=seed))
        for seed in range(members)
    ]
    return fit_population(configs, table()).ensemble(table(), combine=combine)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dense(),
        lambda: dense(error="absolute", scale=Scale(clip=1.0)),
        lambda: images(aejax.Conv(channels=(2,))),
        pytest.param(
            lambda: images(aejax.Conv(channels=(2,), batch_norm=True, down="pool")),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: images(SuperResolution(levels=1, convolutions=1, channels=2)),
            marks=pytest.mark.slow,
        ),
        lambda: ensemble("mean", 2),
        lambda: ensemble("median", 3),
        lambda: ensemble("median", 4),
    ],
)
def test_onnx_scores_and_flags_as_the_detector(
    make: Callable[[], Detector], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    live = make()
    session = export(live, tmp_path / "out")
    random = np.random.default_rng(3)
    for rows in (0, 1, 37):
        shape = (rows, *live.schema.shape)
        x = (255 * random.random(shape)).astype(live.schema.dtype)
        if live.schema.dtype == "float32":
            x /= 255
        score, flag = session.run(None, {"rows": x})
        assert score.dtype == np.float32
        np.testing.assert_allclose(score, live.score(x), rtol=1e-5)
        np.testing.assert_array_equal(flag, live.threshold.flags(score))


def test_an_onnx_export_is_a_detector_too(detector: Detector, tmp_path: Path) -> None:
    session = export(detector, tmp_path / "out")
    assert [given.name for given in session.get_inputs()] == ["rows"]
    assert [found.name for found in session.get_outputs()] == ["score", "is_anomaly"]
    assert session.get_modelmeta().custom_metadata_map == {"detector": detector.fingerprint}
    described = inspect_folder(tmp_path / "out")
    assert described["export"]["formats"] == ["onnx"]
    assert described["export"]["parity"]["onnx"] <= 1e-5
    assert json.loads(json.dumps(described)) == described
    x = np.ones((3, 6), np.float32)
    np.testing.assert_array_equal(aejax.load(tmp_path / "out").score(x), detector.score(x))


def test_a_row_without_a_number_has_no_score_and_no_flag(tmp_path: Path) -> None:
    """A scaler that clips makes a number of infinity: it must not become a score."""
    live = dense(scale=Scale(clip=1.0))
    session = export(live, tmp_path / "out")
    x = np.zeros((5, 5), np.float32)
    x[1, 2], x[2, 0], x[3, 4] = np.nan, np.inf, -np.inf
    score, flag = session.run(None, {"rows": x})
    np.testing.assert_array_equal(np.isnan(score), [False, True, True, True, False])
    assert not flag[1:4].any()
    # Numbers that are too large to be squared.
    session = export(dense(), tmp_path / "wide")
    score, flag = session.run(None, {"rows": np.full((1, 5), 3e38, np.float32)})
    assert np.isnan(score).all()
    assert not flag.any()


def test_an_onnx_mismatch_fails_and_leaves_nothing(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    monkeypatch.setitem(onnx_graph._SAME, "add", "Sub")
    with pytest.raises(InputError, match="Nothing was exported"):
        aejax.export(detector, tmp_path / "out", formats="onnx")
    assert list(tmp_path.iterdir()) == []


def computed(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of a function that JAX traced for any number of rows."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    import jax
    from onnx import TensorProto, helper

    from aejax.core.programs import symbolic_rows

    graph = onnx_graph.Graph("rows", OPERATIONS)
    shape = (symbolic_rows(), *x.shape[1:])
    result = graph.add(function, jax.ShapeDtypeStruct(shape, x.dtype))
    made = helper.make_graph(
        graph.nodes,
        "one",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        graph.constants,
    )
    opset = [helper.make_opsetid("", onnx_graph.OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"rows": x})
    return np.asarray(found)


@pytest.mark.parametrize("resize", ["none", "stride", "transpose", "repeat"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolutions_are_those_of_jax(resize: Any, size: int) -> None:
    from aejax.models.layers import convolve

    random = np.random.default_rng(size)
    x = random.normal(size=(3, 4, 6, 2)).astype(np.float32)
    kernel = random.normal(size=(size, size, 2, 3)).astype(np.float32)
    expected = np.asarray(convolve(x, kernel, resize, "float32"))
    found = computed(lambda x: convolve(x, kernel, resize, "float32"), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"window_strides": (2,), "padding": [(0, 1)]},
        {"rhs_dilation": (2,), "padding": [(2, 2)]},
        {"lhs_dilation": (2,), "padding": [(1, 2)]},
        {"feature_group_count": 2},
    ],
)
def test_convolutions_of_series_are_those_of_jax(how: dict[str, Any]) -> None:
    import jax

    random = np.random.default_rng(4)
    groups = how.get("feature_group_count", 1)
    x = random.normal(size=(3, 9, 4)).astype(np.float32)
    kernel = random.normal(size=(3, 4 // groups, 6)).astype(np.float32)
    plain = {"window_strides": (1,), "padding": "SAME"}
    how = {**plain, "dimension_numbers": ("NWC", "WIO", "NWC"), **how}

    def convolved(x: Any) -> Any:
        return jax.lax.conv_general_dilated(x, kernel, **how)

    np.testing.assert_allclose(computed(convolved, x), convolved(x), rtol=1e-4, atol=1e-5)


def test_pooling_and_every_activation_are_those_of_jax() -> None:
    from aejax.models.layers import ACTIVATIONS, max_pool

    x = np.random.default_rng(0).normal(size=(3, 4, 6, 2)).astype(np.float32)
    expected = x.reshape(3, 2, 2, 3, 2, 2).max(axis=(2, 4))
    np.testing.assert_array_equal(computed(max_pool, x), expected)
    for name, activation in ACTIVATIONS.items():
        if name != "linear":
            found = computed(activation, x)
            np.testing.assert_allclose(found, activation(x), rtol=1e-5, atol=1e-6, err_msg=name)


def test_halves_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    with pytest.raises(InputError, match="allowed for ONNX: 'float32'"):
        aejax.export(dense(precision="bfloat16"), tmp_path / "out", formats="onnx")


def test_an_operation_without_a_counterpart_is_named() -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    import jax
    import jax.numpy as jnp

    rows = jax.ShapeDtypeStruct((4, 3), np.float32)
    with pytest.raises(InputError, match="operation 'sort', which the ONNX export does not know"):
        onnx_graph.Graph("rows", OPERATIONS).add(lambda x: jnp.sort(x, axis=1), rows)
