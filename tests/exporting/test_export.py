from __future__ import annotations

import dataclasses
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jax import export

import aejax
from aejax import Quantile, cli
from aejax.config import Classifier, InputError, Scale, Variational
from aejax.core import programs
from aejax.detection import artifact
from aejax.detection.detector import Detector
from aejax.detection.placed import batch_size_for, batch_sizes
from aejax.detection.population import fit_population
from aejax.exporting import export as exporting
from aejax.exporting import parity
from aejax.scoring.inspection import inspect_folder
from aejax.scoring.stream import score_files
from tests.plain import plain_config

COLUMNS = [f"sensor_{i}" for i in range(6)]
QUICK = aejax.Train(epochs=1)

# Imports of these fail in the process that runs scorer.py.
RUN_ALONE = """
import runpy, sys
for name in ("aejax", "flax", "optax", "orbax", "pickle5"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported_folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "export"
    kept = detector.calibrate(rows_like(detector, 200), rule=Quantile(q=0.9), name="loose")
    aejax.export(kept, folder)
    return folder


@pytest.fixture
def copied(exported_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported_folder, tmp_path / "copy")
    return tmp_path / "copy"


def rows_like(detector: Detector, rows: int) -> np.ndarray:
    shape = (rows, *detector.schema.shape)
    random = np.random.default_rng(5)
    if detector.schema.dtype == "uint8":
        return random.integers(0, 256, shape).astype(np.uint8)
    return random.normal(size=shape).astype(np.float32)


def images() -> Detector:
    x = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 1)).astype(np.uint8)
    config = plain_config(
        model=aejax.Conv(channels=(2,), batch_norm=True), scale=Scale(kind="unit"), train=QUICK
    )
    return aejax.fit(config, x)


def table() -> np.ndarray:
    return np.random.default_rng(0).random((120, 5)).astype(np.float32)


def halves() -> Detector:
    config = plain_config(
        model=aejax.Dense(hidden=(8,), activation="gelu"),
        scale=Scale(clip=3.0),
        train=QUICK,
        error="absolute",
        precision="bfloat16",
    )
    return aejax.fit(config, table())


def ensemble() -> Detector:
    configs = [
        plain_config(model=aejax.Dense(hidden=(4,)), train=aejax.Train(epochs=1, seed=seed))
        for seed in range(3)
    ]
    return fit_population(configs, table()).ensemble(table(), combine="median")


def variational() -> Detector:
    network = aejax.Dense(hidden=(6,), output="sigmoid")
    config = plain_config(
        model=Variational(network=network, latent=2, samples=3),
        scale=Scale(kind="min-max", clip=1.0),
        train=QUICK,
        score="negative-elbo",
    )
    return aejax.fit(config, table())


def classifier() -> Detector:
    config = plain_config(model=Classifier(classes=2), train=QUICK)
    return aejax.fit(config, table(), labels=np.arange(120) % 2)


def scorer_of(folder: Path) -> Any:
    """The `Scorer` of an export, as whoever was sent the folder imports it."""
    return runpy.run_path(str(folder / "scorer.py"))["Scorer"](folder)


@pytest.mark.parametrize(
    "make",
    [
        images,
        ensemble,
        classifier,
        pytest.param(halves, marks=pytest.mark.slow),
        pytest.param(variational, marks=pytest.mark.slow),
    ],
)
def test_a_model_of_every_kind_scores_as_before(
    make: Callable[[], Detector], tmp_path: Path
) -> None:
    live = make()
    result = aejax.export(live, tmp_path / "out")
    assert 0 <= result["parity"]["loaded"] <= 1e-6
    assert np.isfinite(result["parity"]["scorer"])
    found = aejax.load(tmp_path / "out")
    assert found.fingerprint == live.fingerprint
    x = rows_like(live, 75)
    if live.schema.dtype != "uint8":
        x = np.abs(x)
    np.testing.assert_array_equal(found.score(x), live.score(x))
    np.testing.assert_array_equal(found.predict(x), live.predict(x))
    np.testing.assert_allclose(scorer_of(tmp_path / "out")(x), live.score(x), rtol=1e-5)
    # It is a detector: it can be calibrated, kept elsewhere, and exported again.
    again = found.calibrate(x, rule=Quantile(q=0.5))
    aejax.export(again, tmp_path / "again")
    assert aejax.load(tmp_path / "again").threshold == again.threshold


def test_groups_are_exported_together(tmp_path: Path) -> None:
    groups = np.array(["seven", "8", "nine"])[np.arange(150) % 3]
    # The second group's values need an offset of their own.
    x = np.random.default_rng(0).normal(size=(150, 4))
    x[groups == "8"] += 1e9
    config = plain_config(model=aejax.Dense(hidden=(3,)), train=QUICK)
    live = aejax.fit(config, x, groups=groups)
    result = aejax.export(live, tmp_path / "out")
    assert 0 <= result["parity"]["loaded"] <= 1e-6
    found = aejax.load(tmp_path / "out")
    scores = live.score(x, groups=groups)
    np.testing.assert_array_equal(found.score(x, groups=groups), scores)
    scorer = scorer_of(tmp_path / "out")
    np.testing.assert_allclose(scorer(x, groups), scores, rtol=1e-5)
    assert list(scorer.thresholds.values()) == live.threshold.values.tolist()
    unknown = scorer(x[:2], ["seven", "ten"])
    assert np.isfinite(unknown).tolist() == [True, False]
    with pytest.raises(ValueError, match="groups: needed"):
        scorer(x)
    for name, array in (("x", x), ("groups", groups)):
        np.save(tmp_path / f"{name}.npy", array)
    files = [str(tmp_path / f"{name}.npy") for name in ("x", "groups", "y")]
    program = [sys.executable, "-c", RUN_ALONE, str(tmp_path / "out" / "scorer.py"), *files]
    subprocess.run(program, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), scores, rtol=1e-5)
    assert "3 detectors of groups" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_a_program_for_all_platforms_keeps_both_forms_of_a_convolution() -> None:
    live = images()
    how = (live.scoring, live.scaler, live.variables, live.schema.shape, live.schema.device_dtype)
    one, all_three = programs.lower_score(*how, platforms=("cpu",)), programs.lower_score(*how)
    # The native convolution, for GPUs and TPUs, is an operation that the CPU's form lacks.
    assert b"convolution_v1" not in one.replace(b"\0", b"")
    texts = [export.deserialize(bytearray(program)) for program in (one, all_three)]
    assert "stablehlo.convolution" not in texts[0].mlir_module()
    assert "stablehlo.convolution" in texts[1].mlir_module()
    assert texts[1].platforms == ("cpu", "cuda", "tpu")


def test_the_scorer_needs_neither_aejax_nor_flax(
    detector: Detector, exported_folder: Path, tmp_path: Path
) -> None:
    # More than a batch and not two: the last one is ragged.
    x = rows_like(detector, batch_sizes(detector.schema, detector.config)[-1] + 137)
    np.save(tmp_path / "rows.npy", x)
    scorer = str(exported_folder / "scorer.py")
    command = [sys.executable, "-W", "error", "-c", RUN_ALONE, scorer, "rows.npy", "scores.npy"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    scores = np.load(tmp_path / "scores.npy", allow_pickle=False)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, detector.score(x), rtol=1e-6)


def test_the_scorer_is_short_and_says_what_it_needs(exported_folder: Path) -> None:
    code = (exported_folder / "scorer.py").read_text()
    assert len(code.splitlines()) < 90
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert imported <= {"json", "os", "sys", "pathlib", "jax", "numpy"}


def test_the_scorer_takes_the_batches_that_the_detector_takes(
    detector: Detector, exported_folder: Path
) -> None:
    scorer, seen = scorer_of(exported_folder), set()
    program = scorer.program

    def noted(arrays: Any, batch: Any) -> Any:
        seen.add(len(batch))
        return program(arrays, batch)

    scorer.program = noted
    for rows in (1, 4, 5, 31, 32, 300, 3000):
        x = rows_like(detector, rows)
        seen.clear()
        np.testing.assert_allclose(scorer(x), detector.score(x), rtol=1e-5)
        assert seen == {batch_size_for(rows, detector.schema, detector.config)}
    assert scorer(rows_like(detector, 0)).shape == (0,)


def test_every_size_is_one_of_those_that_are_listed(detector: Detector) -> None:
    how = detector.schema, detector.config
    sizes = {batch_size_for(rows, *how) for rows in (*range(1, 300), 2000, 3000, 1 << 20)}
    assert sorted(sizes) == batch_sizes(*how)


def test_a_row_without_a_number_means_the_same_everywhere(tmp_path: Path) -> None:
    """A scaler that clips makes a number of infinity: it must not become a score."""
    live = aejax.fit(
        plain_config(model=aejax.Dense(hidden=(3,)), scale=Scale(clip=2.0), train=QUICK), table()
    )
    aejax.export(live, tmp_path / "out")
    x = table().astype(np.float64)
    x[3, 1], x[40, 0], x[41, 4] = np.nan, np.inf, -np.inf
    x[77] = 1e300  # infinite as float32
    bad = np.isin(np.arange(len(x)), [3, 40, 41, 77])
    pd.DataFrame(x).rename(columns=str).to_parquet(tmp_path / "rows.parquet")
    named = dataclasses.replace(live, schema=dataclasses.replace(live.schema, names=tuple("01234")))
    score_files(named, tmp_path / "rows.parquet", tmp_path / "scores")
    files = pq.read_table(tmp_path / "scores").to_pandas()
    alone = scorer_of(tmp_path / "out")(x)
    np.testing.assert_array_equal(files["score"].isna(), bad)
    np.testing.assert_array_equal(np.isnan(alone), bad)
    np.testing.assert_allclose(alone[~bad], files["score"][~bad], rtol=1e-5)
    assert not files["is_anomaly"][bad].fillna(value=False).any()
    with pytest.raises(InputError, match="row 3, "):
        live.score(x)


def test_files_are_scored_by_an_export_as_by_the_run(
    detector: Detector, exported_folder: Path, tmp_path: Path
) -> None:
    rows = pd.DataFrame(rows_like(detector, 300), columns=COLUMNS)
    rows.loc[3, "sensor_1"] = np.nan
    rows.to_parquet(tmp_path / "rows.parquet")
    by = {"live": detector, "exported": aejax.load(exported_folder)}
    for name, scorer in by.items():
        score_files(scorer, tmp_path / "rows.parquet", tmp_path / name, top_features=2)
    tables = [pq.read_table(tmp_path / name).to_pandas() for name in by]
    # The threshold of the export is another one.
    flags = [table.pop("is_anomaly") for table in tables]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert flags[0].sum() < flags[1].sum()


def test_the_command_line_exports_inspects_and_scores(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scores = str(tmp_path / "export"), str(tmp_path / "scores")
    pd.DataFrame(np.ones((9, 6), np.float32), columns=COLUMNS).to_csv(tmp_path / "x.csv")
    data = str(tmp_path / "x.csv")
    assert cli.main(["export", str(run_folder), "--out", out, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["export"] == out
    assert set(result["files"]) == {entry.name for entry in Path(out).iterdir()}
    assert cli.main(["export", str(run_folder), "--out", out]) == cli.EXIT_INPUT
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main(["export", str(run_folder), "--out", out, "--overwrite"]) == 0
    assert cli.main(["score", out, "--input", data, "--out", scores, "--quiet"]) == 0
    capsys.readouterr()
    for folder, kind in ((out, "export"), (scores, "scores")):
        assert cli.main(["inspect", folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["kind"] == kind


def test_inspect_says_what_made_an_export(exported_folder: Path, detector: Detector) -> None:
    result = inspect_folder(exported_folder, shapes=True)
    assert result["fingerprint"] == result["export"]["fingerprint"] == detector.fingerprint
    assert result["provenance"]["data"] == detector.provenance["data"]
    assert result["config"]["train"]["seed"] == 0
    assert result["thresholds"]["loose"]["rule"] == {"kind_name": "quantile", "q": 0.9}
    assert result["export"]["exported_with"]["aejax"] == aejax.__version__
    assert result["arrays"]["params/encoder_layers_0/bias"] == "float32[8]"
    assert json.loads(json.dumps(result)) == result


def test_metrics_of_the_run_travel_along(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "run" / "detector")
    measured = {"measured": {"auroc": 0.75}, "metrics": {"rows": 4, "anomalies": 2}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(measured))
    for run in (tmp_path / "run", tmp_path / "run" / "detector"):
        aejax.export(run, tmp_path / "out", overwrite=True)
        assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == measured
        assert inspect_folder(tmp_path / "out")["measured"] == measured["measured"]
    assert "0.75" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_a_mismatch_fails_and_leaves_nothing(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.ones(len(parity.edges(detector).rows), np.float32)
    monkeypatch.setattr(
        exporting.runpy, "run_path", lambda _: {"Scorer": lambda _: lambda x: scores}
    )
    with pytest.raises(InputError, match="Nothing was exported") as raised:
        aejax.export(detector, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_parity_tells_numbers_from_what_is_none() -> None:
    live = np.array([1, 0, np.inf, np.nan], np.float32)
    names = ["a", "b", "c", "d"]
    assert parity.check("it", live, live * [1, 1, np.nan, 1], names) == 0
    for wrong in ([1, 0, 5, np.nan], [np.nan, 0, np.inf, np.nan], [1, 1e-30, np.inf, np.nan]):
        with pytest.raises(InputError, match="scores row"):
            parity.check("it", live, np.array(wrong, np.float32), names)


def test_rows_of_parity_hold_the_edges(detector: Detector) -> None:
    rows, names = parity.edge_rows(detector)
    assert len(rows) == len(names)
    facts = np.finfo(np.float32)
    for value in (0, facts.max, -facts.max, facts.tiny, facts.smallest_subnormal, np.inf):
        assert (rows == np.float32(value)).all(axis=1).any()
    assert np.isnan(rows).any()
    assert len(rows) % parity.BATCH_SIZE


def test_what_is_there_is_not_replaced_by_mistake(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    for name in ("mine", "link", "file"):
        with pytest.raises(InputError, match="holds no export"):
            aejax.export(detector, tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
    assert len(list(tmp_path.iterdir())) == 3


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    written = json.loads((folder / "detector.json").read_text())
    change(written)
    (folder / "detector.json").write_text(json.dumps(written))


@pytest.mark.parametrize("kind", ["arrays", "programs"])
def test_a_changed_file_is_refused_here_and_by_the_scorer(copied: Path, kind: str) -> None:
    (path,) = copied.glob(f"{kind}-*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{kind}-"):
        aejax.load(copied)
    with pytest.raises(InputError, match=f"{kind}-"):
        inspect_folder(copied)
    with pytest.raises(Exception, match="CRC"):
        scorer_of(copied)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        aejax.load(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(format=2), "format is 2"),
        (lambda w: w.update(programs="../x"), "programs is '../x'"),
        (lambda w: w.update(programs="/etc/passwd"), "programs is '/etc/passwd'"),
        (lambda w: w["sizes"].update(scoring=-1), "sizes is"),
        (lambda w: w["sizes"].update(scoring=1 << 50), "sizes is"),
        (lambda w: w["sizes"].update(more=4), "programs-"),
        (lambda w: w["schema"].update(shape=[7], names=None), "arrays-"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    changed(copied, change)
    with pytest.raises(InputError, match=message) as raised:
        aejax.load(copied)
    assert "\n" not in str(raised.value)


def test_pipes_are_not_opened(copied: Path) -> None:
    (path,) = copied.glob("arrays-*.npz")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="no plain file"):
        aejax.load(copied)


def test_a_scorer_that_is_there_is_never_run(copied: Path, detector: Detector) -> None:
    (copied / "scorer.py").write_text("raise SystemExit('run')")
    np.testing.assert_array_equal(
        aejax.load(copied).score(np.ones((2, 6))), detector.score(np.ones((2, 6)))
    )
    inspect_folder(copied)
    aejax.export(copied, copied, overwrite=True)
    assert "Scorer" in (copied / "scorer.py").read_text()


def test_nothing_is_saved_over_an_export(copied: Path) -> None:
    """Its card and its ONNX model would be another detector's."""
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(InputError, match="is an export; allowed: save to another folder"):
        aejax.load(copied).save(copied)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert artifact.is_export(copied)


def test_equal_detectors_make_equal_files(detector: Detector, tmp_path: Path) -> None:
    for name in ("one", "two"):
        aejax.export(detector, tmp_path / name)
    for entry in (tmp_path / "one").iterdir():
        assert entry.read_bytes() == (tmp_path / "two" / entry.name).read_bytes(), entry.name


def test_a_detector_without_a_threshold_exports(detector: Detector, tmp_path: Path) -> None:
    aejax.export(dataclasses.replace(detector, threshold=None), tmp_path / "out")
    with pytest.raises(InputError, match="no threshold"):
        aejax.load(tmp_path / "out").predict(np.zeros((1, 6), np.float32))
    assert scorer_of(tmp_path / "out").threshold is None


@pytest.mark.parametrize("formats", ["tflite", (), ("onnx", "tflite")])
def test_another_format_is_refused(detector: Detector, tmp_path: Path, formats: Any) -> None:
    with pytest.raises(InputError, match="allowed: one or more of stablehlo, onnx"):
        aejax.export(detector, tmp_path / "out", formats=formats)
    assert list(tmp_path.iterdir()) == []
