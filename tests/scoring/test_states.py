"""States of layers, written with the scores: the detector's own, resumed, and refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main
from aejax.config import InputError
from aejax.scoring.stream import score_files
from tests.plain import plain_config

ROWS = 300


@pytest.fixture(scope="module")
def detector() -> aejax.Detector:
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    config = plain_config(model=aejax.Dense(hidden=(8, 3)), train=aejax.Train(epochs=2))
    return aejax.fit(config, x, schema=aejax.Schema(shape=(5,), names=tuple("abcde")))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = np.random.default_rng(1).normal(size=(ROWS, 5)).astype(np.float32)
    x[7, 2] = np.nan
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table({name: x[:, i] for i, name in enumerate("abcde")}), path)
    return path


def read(path: Path) -> np.ndarray:
    table = pq.read_table(path, columns=list("abcde"))
    return np.stack([table[name].to_numpy() for name in "abcde"], axis=1)


@pytest.mark.parametrize("layer", ["encoder_0", "encoder_1", "decoder_0", "latent"])
def test_states_are_what_the_layers_compute(
    detector: aejax.Detector, rows: Path, tmp_path: Path, layer: str
) -> None:
    score_files(detector, rows, tmp_path / "out", layer=layer)
    found = pq.read_table(tmp_path / "out").sort_by("row")
    assert found["state"][7].as_py() is None
    assert found["score"][7].as_py() is None
    good = np.delete(np.arange(ROWS), 7)
    states = np.stack([found["state"][int(i)].values.to_numpy() for i in good])
    x = read(rows)[good].astype(np.float64)
    params = detector.variables["params"]
    shift, scale = (np.asarray(part, np.float64) for part in detector.scaler[:2])
    expected = {}
    hidden = (x - shift) * scale
    for name in ("encoder_layers_0", "encoder_layers_1", "decoder_layers_0"):
        weights = {k: np.asarray(v, np.float64) for k, v in params[name].items()}
        hidden = np.maximum(hidden @ weights["kernel"] + weights["bias"], 0)
        expected[name.replace("_layers", "")] = hidden
    expected["latent"] = expected["encoder_1"]
    np.testing.assert_allclose(states, expected[layer], rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(
    detector: aejax.Detector, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="did you mean 'encoder_1'"):
        score_files(detector, rows, tmp_path / "out", layer="encoder1")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="layer is 'x'; allowed: decoder_0, encoder_0"):
        detector.states(read(rows)[:3], "x")


def test_another_layer_is_another_job(detector: aejax.Detector, rows: Path, tmp_path: Path) -> None:
    score_files(detector, rows, tmp_path, layer="latent")
    with pytest.raises(InputError, match="layer"):
        score_files(detector, rows, tmp_path, layer="encoder_0")


def test_the_commands_write_them(
    detector: aejax.Detector, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector.save(tmp_path / "detector")
    run, given = str(tmp_path / "detector"), ["--input", str(rows), "--quiet"]
    assert main(["encode", run, *given, "--out", str(tmp_path / "latent")]) == 0
    layer = ["--layer", "encoder_0", "--out", str(tmp_path / "states")]
    assert main(["states", run, *given, *layer]) == 0
    assert len(pq.read_table(tmp_path / "latent")["state"][0]) == 3
    assert len(pq.read_table(tmp_path / "states")["state"][0]) == 8
    layer = ["--layer", "enc", "--out", str(tmp_path / "none")]
    assert main(["states", run, *given, *layer]) == 2
    assert "layer is 'enc'" in capsys.readouterr().err
