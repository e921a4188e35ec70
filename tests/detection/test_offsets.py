"""Numbers far from 0 keep their digits: a table scores as the same table centred by hand does."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import aejax
from aejax import cli
from aejax.config import Columns, Dense, InputError, Scale, Train
from aejax.data.disk_rows import DiskRows
from aejax.data.offsets import centres
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.population import fit_population
from aejax.estimator import AutoEncoder
from tests.plain import plain_config

T0 = 1_790_000_000.0
NAMES = ["epoch", "load", "copy"]
CONFIG = plain_config(
    model=Dense(hidden=(8, 2)), train=Train(epochs=4, batch_size=64, learning_rate=5e-3)
)


def numbers(rows: int = 400, seed: int = 0, offset: float = T0, spread: float = 60) -> np.ndarray:
    """Rows [n, 3] of float64: one feature far from 0, one near it, and the first one near it."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=rows)
    return np.stack(
        [
            offset + spread * hidden,
            random.normal(size=rows),
            hidden + 0.05 * random.normal(size=rows),
        ],
        axis=1,
    )


def frame(x: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=NAMES)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return aejax.fit(CONFIG, frame(numbers()))


def by_hand(x: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return (x - offset).astype(np.float32)


@pytest.mark.parametrize("kind", ["standard", "min-max", "min-max-all", "robust", "quantile"])
@pytest.mark.parametrize(("offset", "spread"), [(T0, 60), (1e3 * T0, 60_000), (-5e6, 0.5)])
def test_a_table_scores_as_if_it_were_centred(kind: Any, offset: float, spread: float) -> None:
    config = dataclasses.replace(CONFIG, scale=Scale(kind=kind))
    x, other = (numbers(seed=seed, offset=offset, spread=spread) for seed in (0, 1))
    found = aejax.fit(config, x)
    assert found.schema.offset is not None
    subtracted = np.array(found.schema.offset)
    assert abs(subtracted[0] - offset) < spread
    np.testing.assert_array_equal(subtracted[1:], 0)
    centred = aejax.fit(config, by_hand(x, subtracted))
    assert centred.schema.offset is None
    np.testing.assert_array_equal(found.score(other), centred.score(by_hand(other, subtracted)))
    assert found.threshold is not None
    assert centred.threshold is not None
    assert found.threshold.value == centred.threshold.value


@pytest.mark.parametrize(("offset", "spread"), [(0, 5), (1e5, 5), (1.6e8, 5), (1.79e12, 60_000)])
def test_the_network_sees_what_float64_makes_of_the_rows(offset: float, spread: float) -> None:
    x = numbers(offset=offset, spread=spread)
    found = aejax.fit(
        dataclasses.replace(CONFIG, train=Train(epochs=1, validation_fraction=0.0)), x
    )
    scaled, _ = found.reconstruct(x)
    np.testing.assert_allclose(scaled, (x - x.mean(axis=0)) / x.std(axis=0), atol=2e-4)
    assert len(np.unique(scaled[:, 0])) == len(x)


def test_a_fault_between_two_times_is_found() -> None:
    random = np.random.default_rng(0)
    late = random.integers(0, 2, 600)
    x = np.stack([T0 + 60 * late, 2.0 * late - 1], axis=1) + 0.01 * random.normal(size=(600, 2))
    fault = x.copy()
    fault[:, 0] = T0 + 30
    train = Train(epochs=30, batch_size=64, learning_rate=1e-2)
    config = plain_config(model=Dense(hidden=(8, 1), activation="tanh"), train=train)
    scores = aejax.fit(config, x).score(np.concatenate([x, fault]))
    assert roc_auc_score(np.arange(1200) >= 600, scores) > 0.99


def written(x: np.ndarray, path: Path) -> Path:
    if path.name.endswith((".csv", ".csv.gz")):
        frame(x).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame(x).to_parquet(path)
    elif path.suffix == ".npy":
        np.save(path, x)
    else:
        np.savez(path, x=x)
    return path


FILES = ["csv", "csv.gz", "parquet", "npy", "npz"]
TABLES: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda x: x,
    "frame": lambda x: frame(x)[NAMES[::-1]],
    "arrow": lambda x: pa.Table.from_pandas(frame(x)[NAMES[::-1]]),
    "stream": lambda x: pa.Table.from_pandas(frame(x)).to_reader(),
    "dict": lambda x: dict(zip(NAMES, x.T, strict=True)),
    "records": lambda x: frame(x).to_records(index=False),
}


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("memory_limit", [1 << 20, 1])
def test_files_of_any_size_are_centred_while_they_are_read(
    suffix: str, memory_limit: int, detector: Detector, tmp_path: Path
) -> None:
    path = written(numbers(), tmp_path / f"rows.{suffix}")
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, feed="stream"))
    found = aejax.fit(config, path, memory_limit=memory_limit)
    assert found.schema.offset == detector.schema.offset
    other = numbers(seed=1)
    np.testing.assert_allclose(found.score(other), detector.score(other), rtol=1e-4, atol=1e-6)
    aejax.score_files(found, written(other, tmp_path / f"new.{suffix}"), tmp_path / "scores")
    read = pq.read_table(tmp_path / "scores").sort_by("row")["score"].to_numpy()
    np.testing.assert_allclose(read, found.score(other), rtol=1e-6)


@pytest.mark.parametrize("name", TABLES)
def test_whatever_holds_the_rows_they_are_centred(name: str, detector: Detector) -> None:
    other = numbers(seed=1)
    np.testing.assert_array_equal(detector.score(TABLES[name](other)), detector.score(other))
    found = aejax.fit(CONFIG, TABLES[name](numbers()))
    assert found.schema.offset is not None
    assert sorted(found.schema.offset) == sorted(detector.schema.offset or ())
    with_validation = aejax.fit(CONFIG, frame(numbers()), x_validation=TABLES[name](other))
    np.testing.assert_array_equal(
        with_validation.score(other),
        aejax.fit(CONFIG, frame(numbers()), x_validation=frame(other)).score(other),
    )


def test_every_method_takes_rows_as_they_are(detector: Detector) -> None:
    x = numbers(seed=1)
    prepared = detector.prepare(x)
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, by_hand(x, np.array(detector.schema.offset)))
    np.testing.assert_array_equal(detector.score_rows(prepared), detector.score(x))
    centred = aejax.fit(CONFIG, by_hand(numbers(), np.array(detector.schema.offset)))
    for method in ("score", "predict", "encode", "explain"):
        found, wanted = getattr(detector, method)(x), getattr(centred, method)(prepared)
        if method == "explain":
            found, wanted = (
                [[reason.error for reason in row] for row in y] for y in (found, wanted)
            )
        np.testing.assert_array_equal(found, wanted)
    calibrated = detector.calibrate(x).threshold
    assert calibrated is not None
    assert calibrated.value == centred.calibrate(prepared).threshold.value  # type: ignore[union-attr]


def test_float32_rows_score_as_near_as_their_digits_allow(detector: Detector) -> None:
    x = numbers(seed=1)
    x[:, 0] = np.float32(x[:, 0])
    np.testing.assert_array_equal(detector.score(x.astype(np.float32)), detector.score(x))


def test_a_saved_detector_keeps_its_offset(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "kept")
    again = aejax.load(tmp_path / "kept")
    assert again.schema == detector.schema
    assert again.fingerprint == detector.fingerprint
    np.testing.assert_array_equal(again.score(numbers(seed=1)), detector.score(numbers(seed=1)))
    offset = detector.schema.offset
    assert offset is not None
    moved = dataclasses.replace(
        detector, schema=detector.schema.with_offset((offset[0] + 1, *offset[1:]))
    )
    assert moved.fingerprint != detector.fingerprint


def test_many_members_share_it(detector: Detector) -> None:
    x, other = numbers(), numbers(seed=1)
    seeds = [
        dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=seed))
        for seed in (0, 1)
    ]
    hand = by_hand(x, np.array(detector.schema.offset))
    ensemble = aejax.fit(CONFIG, x, members=2, combine="rank")
    centred = aejax.fit(CONFIG, hand, members=2, combine="rank")
    prepared = ensemble.prepare(other)
    np.testing.assert_array_equal(ensemble.score(other), centred.score(prepared))
    np.testing.assert_array_equal(ensemble.spread(other), centred.spread(prepared))
    found, wanted = fit_population(seeds, x), fit_population(seeds, hand)
    for one, by in zip(found.detectors, wanted.detectors, strict=True):
        assert one is not None
        assert by is not None
        np.testing.assert_array_equal(one.score(other), by.score(prepared))
        assert one.threshold == by.threshold
    joined = fit_population(seeds, x).ensemble(other)
    np.testing.assert_array_equal(
        joined.score(other), fit_population(seeds, hand).ensemble(prepared).score(prepared)
    )


def test_a_search_sees_the_digits() -> None:
    from aejax.training.search_space import parse_space

    space = parse_space({"train.epochs": 3, "model.hidden": {"choices": [[4], [2]]}})
    x = numbers()
    offset = np.array(aejax.fit(CONFIG, x).schema.offset)
    found = aejax.tune(space, x, configurations=2, folds=2)
    wanted = aejax.tune(space, by_hand(x, offset), configurations=2, folds=2)
    assert [trial.folds for trial in found.trials] == [trial.folds for trial in wanted.trials]


def grouped() -> tuple[np.ndarray, np.ndarray]:
    """Rows of three groups, each at a level of its own, and the groups' names."""
    levels = {"a": 1e9, "b": 5e8, "near": 0.0}
    parts = [numbers(200, seed, level, 5) for seed, level in enumerate(levels.values())]
    order = np.random.default_rng(0).permutation(600)
    return np.concatenate(parts)[order], np.repeat(list(levels), 200)[order]


def test_every_group_has_an_offset_of_its_own(tmp_path: Path) -> None:
    x, names = grouped()
    found = aejax.fit(CONFIG, frame(x), groups=names)
    assert [group.offset is None for group in found.groups.each] == [False, False, True]
    for name in found.groups.names:
        own = x[names == name]
        scaled, _ = found.member(name).reconstruct(own)
        expected = (own - own.mean(axis=0)) / own.std(axis=0)
        # The scaler was fitted on the training rows alone.
        slope, shift = np.polyfit(expected[:, 0], scaled[:, 0], 1)
        np.testing.assert_allclose(scaled[:, 0], slope * expected[:, 0] + shift, atol=2e-4)
        np.testing.assert_allclose(
            found.member(name).score(own), found.score(own, groups=names[names == name]), rtol=1e-5
        )
    found.save(tmp_path / "kept")
    again = aejax.load(tmp_path / "kept")
    assert again.fingerprint == found.fingerprint
    np.testing.assert_array_equal(again.score(x, groups=names), found.score(x, groups=names))
    np.testing.assert_array_equal(
        again.predict(frame(x), groups=names),
        found.score(x, groups=names) > found.threshold.values[again.groups.members(names, len(x))],
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_groups_in_files_are_centred_each(suffix: str, tmp_path: Path) -> None:
    x, names = grouped()
    table = frame(x).assign(store=names)
    path = tmp_path / f"rows.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    how = ["--hidden", "8", "2", "--epochs", "4", "--quiet", "--calibration", "held-out"]
    command = ["train", "--input", str(path), "--out", str(tmp_path / "run"), *how]
    assert cli.main([*command, "--group-column", "store"]) == 0
    found = aejax.load(tmp_path / "run")
    assert [group.offset is None for group in found.groups.each] == [False, False, True]
    aejax.score_files(found, path, tmp_path / "scores")
    read = pq.read_table(tmp_path / "scores").sort_by("row")["score"].to_numpy()
    np.testing.assert_allclose(read, found.score(table, groups=names), rtol=1e-5)
    (tmp_path / "groups").mkdir()
    assert cli.main(["explain", str(tmp_path / "run"), "--input", str(path), "--row", "3"]) == 0
    calibrate = ["calibrate", str(tmp_path / "run"), "--input", str(path)]
    assert cli.main([*calibrate, "--rule", "quantile:1.0"]) == 0
    again = aejax.load(tmp_path / "run")
    assert not again.predict(table, groups=names).any()


def test_an_export_subtracts_it(detector: Detector, tmp_path: Path) -> None:
    x = numbers(seed=1)
    aejax.export(detector, tmp_path / "export")
    exported = aejax.load(tmp_path / "export")
    np.testing.assert_array_equal(exported.score(frame(x)), detector.score(x))
    np.save(tmp_path / "rows.npy", x)
    scorer, rows, scores = (
        str(tmp_path / name) for name in ("export/scorer.py", "rows.npy", "scores.npy")
    )
    subprocess.run([sys.executable, scorer, rows, scores], check=True)
    np.testing.assert_allclose(np.load(scores), detector.score(x), rtol=1e-5)
    offset = detector.schema.offset
    assert offset is not None
    moved = dataclasses.replace(
        detector, schema=detector.schema.with_offset((offset[0] + 1, *offset[1:]))
    )
    aejax.export(moved, tmp_path / "moved")
    assert aejax.load(tmp_path / "moved").fingerprint != exported.fingerprint
    card = (tmp_path / "export" / "MODEL_CARD.md").read_text()
    assert f"| subtracted first, in float64 | epoch {offset[0]:.15g} |" in card


def test_onnx_takes_doubles(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    aejax.export(detector, tmp_path / "onnx", formats="onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    assert session.get_inputs()[0].type == "tensor(double)"
    scores, flags = session.run(None, {"rows": numbers(seed=1)})
    np.testing.assert_allclose(scores, detector.score(numbers(seed=1)), rtol=1e-4)
    np.testing.assert_array_equal(flags, detector.predict(numbers(seed=1)))


def test_mixed_tables_keep_digits_and_say_them(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, columns=Columns(kinds="mixed"))
    x = frame(numbers())
    x["kind"] = np.where(x["load"] > 0, "up", "down")
    x.loc[3:9, "epoch"] = np.nan
    found = aejax.fit(config, x)
    assert found.schema.offset is not None
    assert abs(found.schema.offset[0] - T0) < 60
    rows = x[:2].assign(epoch=[T0 + 7, np.nan])
    texts = {reason.feature: reason for reason in found.explain(rows, top=4)[0]}
    assert texts["epoch"].found == "1790000007"
    assert abs(float(str(texts["epoch"].expected)) - T0) < 600
    x.to_csv(tmp_path / "rows.csv", index=False)
    again = aejax.fit(config, str(tmp_path / "rows.csv"))
    np.testing.assert_allclose(again.score(x), found.score(x), rtol=1e-4)
    aejax.score_files(again, tmp_path / "rows.csv", tmp_path / "scores")
    read = pq.read_table(tmp_path / "scores").sort_by("row")["score"].to_numpy()
    np.testing.assert_allclose(read, again.score(x), rtol=1e-6)
    np.testing.assert_allclose(
        again.score(pa.Table.from_pandas(x).to_reader()), again.score(x), rtol=1e-6
    )


@pytest.mark.slow
def test_a_column_that_changes_in_its_last_digits_is_not_called_constant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = frame(numbers(spread=5))
    x.to_csv(tmp_path / "rows.csv", index=False)
    how = ["--hidden", "4", "2", "--epochs", "2", "--quiet", "--calibration", "held-out"]
    for kinds in ("numbers", "mixed"):
        run = ["train", "--input", str(tmp_path / "rows.csv"), "--out", str(tmp_path / kinds)]
        assert cli.main([*run, *how, "--columns.kinds", kinds]) == 0, capsys.readouterr().err
        assert aejax.load(tmp_path / kinds).schema.features == 3
    x["epoch"] = T0 + 0.25
    x.to_csv(tmp_path / "same.csv", index=False)
    run = ["train", "--input", str(tmp_path / "same.csv"), "--out", str(tmp_path / "same")]
    assert cli.main([*run, *how]) == 0
    assert dict(aejax.load(tmp_path / "same").schema.dropped) == {"epoch": "always 1.79e+09"}


def test_what_is_wrong_with_a_row_is_said_as_ever(detector: Detector, tmp_path: Path) -> None:
    for wrong in (np.nan, np.inf, 1e300):
        x = numbers(5)
        x[2, 0] = wrong
        with pytest.raises(InputError, match="row 2"):
            detector.score(x)
    frame(x).to_csv(tmp_path / "rows.csv", index=False)
    aejax.score_files(detector, tmp_path / "rows.csv", tmp_path / "scores")
    read = pq.read_table(tmp_path / "scores").sort_by("row").to_pydict()
    assert [score is None for score in read["score"]] == [False, False, True, False, False]
    assert "infinite" in read["reason"][2]
    x = np.concatenate([numbers(), x])
    frame(x).to_csv(tmp_path / "train.csv", index=False)
    found = aejax.fit(CONFIG, tmp_path / "train.csv")
    assert any("1 of 405 rows are left out" in alarm for alarm in found.provenance["alarms"])


def test_estimators_hand_the_digits_on() -> None:
    x = numbers()
    found = AutoEncoder(steps=20, hidden=(4, 2)).fit(frame(x))
    centred = AutoEncoder(steps=20, hidden=(4, 2)).fit(
        by_hand(x, np.array(found.detector_.schema.offset))
    )
    np.testing.assert_array_equal(
        found.score_samples(frame(x)), centred.score_samples(found.detector_.prepare(x))
    )


SAMPLE = np.random.default_rng(0).normal(size=1000)
COLUMNS: dict[str, tuple[np.ndarray, bool]] = {
    "normal": (SAMPLE, False),
    "pressure": (1013 + 5 * SAMPLE, False),
    "counts": (np.round(1e6 + 10 * SAMPLE), False),
    "years": (np.round(2020 + 2 * SAMPLE), False),
    "flags": (np.round(np.abs(SAMPLE)) > 0, False),
    "always the same": (np.full(1000, 0.1), False),
    "rounding": (0.1 + 1e-16 * SAMPLE, False),
    "one outlier": (np.r_[SAMPLE[1:], 1e12], False),
    "wide": (np.exp(8 * SAMPLE), False),
    "empty": (np.full(1000, np.nan), False),
    "degrees": (52.5 + 1e-4 * SAMPLE, True),
    "epoch seconds": (np.round(T0 + 60 * SAMPLE), True),
    "epoch milliseconds": (np.round(1e3 * T0 + 60e3 * SAMPLE), True),
    "always the same, far out": (np.full(1000, T0 + 0.25), True),
    "never set in a third": (np.where(np.arange(1000) % 3, T0 + 60 * SAMPLE, 0), True),
    "missing in half": (np.where(np.arange(1000) % 2, T0 + 60 * SAMPLE, np.nan), True),
    "below 0": (-T0 + 60 * SAMPLE, True),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_only_columns_that_lose_digits_are_centred(name: str) -> None:
    column, wanted = COLUMNS[name]
    found = float(centres(np.asarray(column, np.float64)[:, None])[0])
    assert (found != 0) == wanted
    if wanted:
        assert found in column


def test_first_rows_without_a_value_are_passed_over(tmp_path: Path) -> None:
    x = frame(np.concatenate([numbers(3000), numbers(3000, seed=1)]))
    x.loc[:2999, "epoch"] = np.nan
    x.to_csv(tmp_path / "rows.csv", index=False)
    found = aejax.fit(CONFIG, tmp_path / "rows.csv")
    assert found.schema.offset is not None
    assert abs(found.schema.offset[0] - T0) < 60


def test_ordinary_tables_have_no_word_of_it(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    found = aejax.fit(CONFIG, x)
    assert found.schema == Schema(shape=(3,))
    found.save(tmp_path / "kept")
    described = json.loads((tmp_path / "kept" / "detector.json").read_text())
    assert described["schema"] == {"shape": [3], "dtype": "float32", "names": None, "kind": "table"}
    groups = aejax.fit(CONFIG, x, groups=np.arange(200) % 2)
    assert groups.schema == Schema(shape=(3,))
    assert groups.groups.offsets is None
    assert "offset" not in groups.groups.each[0].to_dict()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (numbers().astype(np.float32), "where float32 holds 4 different values"),
        (np.r_[numbers(), numbers(seed=1, offset=1e9)], "of which float32 holds"),
        (2**53 + np.arange(2000).reshape(-1, 2), "numbers beyond 2 \\*\\* 53"),
    ],
)
def test_values_that_are_lost_all_the_same_are_reported(
    x: np.ndarray, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = aejax.fit(CONFIG, x)
    assert sum(bool(re.search(said, line)) for line in found.provenance["alarms"]) == 1
    assert sum(bool(re.search(said, line)) for line in caplog.messages) == 1


def test_no_more_is_said_of_rows_that_keep_their_digits(detector: Detector) -> None:
    alarms = detector.provenance.get("alarms", [])
    assert [alarm for alarm in alarms if "float" in alarm] == []


def test_rows_on_disk_are_given_as_programs_take_them(tmp_path: Path) -> None:
    x = numbers()
    np.save(tmp_path / "rows.npy", x)
    schema = Schema(shape=(3,)).with_offset((T0, 0.0, 0.0))
    kept = DiskRows(
        path=tmp_path / "rows.npy", schema=schema, offset=128, stored=len(x), scratch=tmp_path
    )
    np.testing.assert_array_equal(kept[5:9], x[5:9])
    taken = dataclasses.replace(kept, less_offset=True)
    wanted = by_hand(x, np.array([T0, 0, 0]))
    np.testing.assert_array_equal(taken[5:9], wanted[5:9])
    np.testing.assert_array_equal(taken[np.array([7, 3])], wanted[[7, 3]])
    assert taken.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": [1.0]}, "Schema.offset has 1 numbers; allowed: a finite one for each of 3"),
        ({"offset": [1.0, np.inf, 0.0]}, "Schema.offset has 3 numbers"),
        ({"dtype": "float32"}, "allowed with Schema.offset: 'float64'"),
    ],
)
def test_a_damaged_offset_is_refused(change: dict[str, Any], message: str) -> None:
    written = Schema(shape=(3,)).with_offset((T0, 0.0, 0.0)).to_dict()
    with pytest.raises(InputError, match=message):
        Schema.from_dict({**written, **change})
