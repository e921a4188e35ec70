"""What training leaves out is passed by when rows are scored, in Python and at the shell."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main
from aejax.data.rows import Selection
from aejax.estimator import AutoEncoder, PyODAutoEncoder
from aejax.training.search_space import parse_space
from tests.plain import plain_config

FEATURES = ["flow", "heat", "press"]
QUICK = "--hidden 2 --epochs 1 --quiet --calibration held-out"
FAST = ["--hidden", "8", "2", "--epochs", "20", "--quiet", "--calibration", "held-out"]
CONFIG = plain_config(model=aejax.Dense(hidden=(8, 2)), train=aejax.Train(epochs=20))


def sensors(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    mixing = np.array([[1, 0.5, -1], [0.2, 1, 0.7]])
    x = random.normal(size=(rows, 2)) @ mixing + 0.1 * random.normal(size=(rows, 3))
    return pd.DataFrame(x, columns=FEATURES)


def pumps(rows: int, seed: int, first: int = 0) -> pd.DataFrame:
    """Sensors, a number that counts rows, and two columns that never change."""
    made = sensors(rows, seed)
    made.insert(0, "pump_id", np.arange(first, first + rows))
    return made.assign(unit=7.5, spare=0)


def command(arguments: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[Any, str]:
    """What a command prints as JSON (None where it fails), and its lines on stderr."""
    capsys.readouterr()
    assert main([*shlex.split(arguments), *([] if code else ["--json"])]) == code
    printed = capsys.readouterr()
    return None if code else json.loads(printed.out), printed.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pumps")
    pumps(2000, 0).to_csv(folder / "train.csv", index=False)
    later = pumps(1000, 1, first=9000).assign(unit=3, spare=99)
    later.to_parquet(folder / "today.parquet", index=False)
    later[FEATURES].to_csv(folder / "bare.csv", index=False)
    later.assign(pump_id="P-" + later["pump_id"].astype(str)).to_csv(
        folder / "text.csv", index=False
    )
    return folder


@pytest.mark.parametrize("kinds", ["numbers", "mixed"])
def test_the_quick_start_flags_no_new_pump(
    kinds: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    flags = [f"--columns.kinds {kinds}", shlex.join(FAST)]
    train = f"train --input {folder}/train.csv --out {tmp_path}/run {' '.join(flags)}"
    found, _ = command(train, capsys)
    assert found["left_out"] == {
        "pump_id": "whole numbers that count up from row to row",
        "unit": "always 7.5",
        "spare": "always 0",
    }
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert all(name in line for name in ("'pump_id'", "'unit'", "'spare'", "--columns.keep"))
    schema = command(f"inspect {tmp_path}/run", capsys)[0]["schema"]
    assert schema["names"] == FEATURES
    assert schema["dropped"] == found["left_out"]
    scores = []
    for name in ("today.parquet", "bare.csv", "text.csv"):
        out = tmp_path / name
        score = f"score {tmp_path}/run --input {folder}/{name} --out {out} --quiet"
        summary, _ = command(score + ("" if name == "bare.csv" else " --key pump_id"), capsys)
        assert summary["flagged_rate"] < 0.05
        scores.append(pq.read_table(out)["score"].to_numpy())
    for other in scores[1:]:
        np.testing.assert_allclose(scores[0], other, rtol=1e-5)


def test_a_key_is_never_a_feature_whatever_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sensors(300, 0).assign(batch=np.arange(300) % 7, label=np.arange(300) % 50 == 0)
    made.to_csv(tmp_path / "rows.csv", index=False)
    rows = f"--input {tmp_path}/rows.csv --label-column label {QUICK}"
    command(f"train {rows} --key batch --out {tmp_path}/run", capsys)
    assert aejax.load(tmp_path / "run").schema.names == tuple(FEATURES)
    selection = Selection(label_column="label", key_columns=("batch",))
    detector = aejax.fit(CONFIG, tmp_path / "rows.csv", selection=selection)
    assert detector.schema.names == tuple(FEATURES)
    grouped = f"train {rows} --key press --group-column batch --out {tmp_path}/groups"
    command(grouped, capsys)
    assert aejax.load(tmp_path / "groups").schema.names == ("flow", "heat")
    (tmp_path / "space.toml").write_text("[train.learning_rate]\nlow = 1e-4\nhigh = 1e-2\n")
    tune = f"tune {tmp_path}/rows.csv --space {tmp_path}/space.toml --out {tmp_path}/tuned"
    tune += " --label-column label --key batch --configurations 2 --folds 2 --quiet"
    command(tune, capsys)
    assert aejax.load(tmp_path / "tuned").schema.names == tuple(FEATURES)
    for flag in (
        f"train {rows} --key bach --out {tmp_path}/none",
        tune + " --key bach --overwrite",
    ):
        _, said = command(flag, capsys, code=2)
        assert "no column 'bach' (key_columns); did you mean 'batch'" in said


@pytest.mark.slow
def test_what_is_kept_is_learnt_and_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"train --input {folder}/train.csv --out {tmp_path}/run {shlex.join(FAST)}"
    found, _ = command(f"{run} --columns.keep spare", capsys)
    assert "spare" not in found["left_out"]
    detector = aejax.load(tmp_path / "run")
    assert detector.schema.names == (*FEATURES, "spare")
    same, other = sensors(200, 3).assign(spare=0), sensors(200, 3).assign(spare=99)
    assert detector.predict(same).mean() < 0.05
    assert detector.predict(other).all()
    (tmp_path / "space.toml").write_text("[train.learning_rate]\nlow = 1e-4\nhigh = 1e-2\n")
    tune = f"tune {folder}/train.csv --space {tmp_path}/space.toml --out {tmp_path}/tuned"
    tune += " --columns.keep spare --configurations 2 --folds 2 --quiet"
    command(tune, capsys)
    assert aejax.load(tmp_path / "tuned").schema.names == (*FEATURES, "spare")


def test_a_table_without_a_feature_is_refused_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = pumps(300, 0)[["pump_id", "unit", "spare"]]
    made.to_csv(tmp_path / "rows.csv", index=False)
    for flags in ("", "--columns.kinds mixed", "--group-column unit"):
        run = f"train --input {tmp_path}/rows.csv --out {tmp_path}/run {flags} --quiet"
        _, said = command(run, capsys, code=2)
        assert said.count("\n") == 1
        assert "0 columns that vary" in said
        assert "pump_id: whole numbers that count up" in said
        assert not (tmp_path / "run").exists()
    config = plain_config(columns=aejax.Columns(kinds="mixed"))
    for of in (CONFIG, config):
        with pytest.raises(aejax.InputError, match="0 columns that vary"):
            aejax.fit(of, made)
    same = np.full((300, 3), 2.5, np.float32)
    np.save(tmp_path / "rows.npy", same)
    with pytest.raises(aejax.InputError, match="all 300 training rows are the same"):
        aejax.fit(CONFIG, same)
    run = f"train --input {tmp_path}/rows.npy --out {tmp_path}/array --quiet"
    assert "rows are the same" in command(run, capsys, code=2)[1]


def fits(kind: str, x: Any) -> Any:
    """A detector of every kind."""
    if kind == "ensemble":
        return aejax.fit(CONFIG, x, members=2)
    if kind == "population":
        return aejax.fit_population([CONFIG, CONFIG], x).detectors[0]
    return aejax.fit(CONFIG, x)


@pytest.mark.parametrize("kind", ["fit", "ensemble", "population"])
def test_frames_in_python(kind: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING, "aejax"):
        detector = fits(kind, pumps(1000, 0))
    assert detector.schema.names == tuple(FEATURES)
    assert set(dict(detector.schema.dropped)) == {"pump_id", "unit", "spare"}
    assert len([record for record in caplog.records if "left out" in record.message]) == 1
    bare = fits(kind, sensors(1000, 0))
    later = pumps(500, 1, first=9000).assign(unit=-3.0, spare=10**6)
    np.testing.assert_array_equal(detector.score(later), bare.score(sensors(500, 1)))
    changed = detector.calibrate(later)
    assert changed.threshold.value == bare.calibrate(sensors(500, 1)).threshold.value
    assert {reason.feature for row in detector.explain(later[:5]) for reason in row} <= {*FEATURES}
    detector.save(tmp_path / "detector")
    loaded = aejax.load(tmp_path / "detector")
    assert loaded.schema == detector.schema
    np.testing.assert_array_equal(loaded.predict(later), detector.predict(later))
    with pytest.raises(aejax.InputError, match=r"training left out \('pump_id', 'unit', 'spare'\)"):
        detector.score(later.to_numpy())


@pytest.mark.parametrize("kind", ["polars", "arrow", "stream", "dict", "records"])
def test_tables_of_any_kind(kind: str) -> None:
    def table(made: pd.DataFrame) -> Any:
        if kind == "polars":
            return pl.from_pandas(made)
        if kind == "dict":
            return {name: made[name].to_numpy() for name in made}
        if kind == "records":
            return made.to_records(index=False)
        found = pa.Table.from_pandas(made, preserve_index=False)
        return found if kind == "arrow" else found.to_reader()

    detector = aejax.fit(CONFIG, table(pumps(1000, 0)))
    assert set(dict(detector.schema.dropped)) == {"pump_id", "unit", "spare"}
    later = pumps(500, 1, first=9000).assign(unit=-3.0, spare=10**6)
    expected = aejax.fit(CONFIG, sensors(1000, 0)).score(sensors(500, 1))
    np.testing.assert_allclose(
        detector.score(table(later[later.columns[::-1]])), expected, rtol=1e-5
    )


def test_tuning_in_python() -> None:
    made = pumps(200, 0)
    space = parse_space({"train.epochs": 3, "model.hidden": {"choices": [[4], [2]]}})
    found = aejax.tune(space, made, configurations=2, folds=2)
    alone = aejax.tune(space, made[FEATURES], configurations=2, folds=2)
    assert [trial.folds for trial in found.trials] == [trial.folds for trial in alone.trials]


def test_a_column_that_never_changes_in_one_group_stays() -> None:
    made, store = pumps(600, 0), np.arange(600) % 3
    made["heat"] = np.where(store == 0, 4.0, made["heat"])
    detectors = aejax.fit(CONFIG, made, groups=store)
    assert detectors.schema.names == tuple(FEATURES)
    assert set(dict(detectors.schema.dropped)) == {"pump_id", "unit", "spare"}
    assert np.isfinite(detectors.score(made, groups=store)).all()
    other = made.assign(pump_id=-1, unit=99, spare=5)
    np.testing.assert_array_equal(
        detectors.score(other, groups=store), detectors.score(made, groups=store)
    )


@pytest.mark.parametrize("kind", [AutoEncoder, PyODAutoEncoder])
@pytest.mark.parametrize("columns", ["numbers", "mixed"])
def test_estimators(kind: Any, columns: str, caplog: pytest.LogCaptureFixture) -> None:
    widths = "hidden" if kind is AutoEncoder else "hidden_neuron_list"
    how: dict[str, Any] = {"steps": 20, widths: (8, 2), "columns": columns}
    with caplog.at_level(logging.WARNING, "aejax"):
        model = kind(**how).fit(pumps(400, 0))
    assert set(model.left_out_) == {"pump_id", "unit", "spare"}
    assert len([record for record in caplog.records if "left out" in record.message]) == 1
    bare = kind(**how).fit(sensors(400, 0))
    assert bare.left_out_ == {}
    later = pumps(100, 1, first=9000).assign(unit=-3.0, spare=10**6)
    scores = model.decision_function(later)
    np.testing.assert_array_equal(scores, bare.decision_function(sensors(100, 1)))
    if kind is AutoEncoder:
        np.testing.assert_array_equal(model.transform(later), bare.transform(sensors(100, 1)))
    if columns == "numbers":
        # By position, as scikit-learn has it where rows have no names.
        with pytest.warns(UserWarning, match="valid feature names"):
            np.testing.assert_array_equal(model.decision_function(later.to_numpy()), scores)


@pytest.mark.parametrize(
    "scale", ["standard", "min-max", "min-max-all", "robust", "quantile", "none"]
)
def test_a_feature_of_an_array_that_never_changes_does_no_harm(
    scale: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.insert(sensors(600, 0).to_numpy(), [1, 3], [7.5, 0.0], axis=1).astype(np.float32)
    config = plain_config(model=CONFIG.model, train=CONFIG.train, scale=aejax.Scale(kind=scale))
    detector = aejax.fit(config, x[:500])
    assert detector.schema.shape == (5,)
    assert detector.predict(x[500:]).mean() < 0.1
    scaled, _ = detector.reconstruct(x)
    assert np.isfinite(scaled).all()
    assert np.ptp(scaled[:, [1, 4]], axis=0).max() == 0
    np.save(tmp_path / "rows.npy", x[:500])
    if scale == "standard":
        command(f"train --input {tmp_path}/rows.npy --out {tmp_path}/run {QUICK}", capsys)
        assert aejax.load(tmp_path / "run").schema.shape == (5,)


def test_a_counter_in_an_array_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "aejax"):
        detector = aejax.fit(CONFIG, pumps(500, 0)[["pump_id", *FEATURES]].to_numpy())
    assert detector.schema.shape == (4,)
    assert "look at: feature[0] (whole numbers that count up" in caplog.text


def log(first: str, days: int, seed: int = 0) -> pd.DataFrame:
    """A sensor that follows the hour of the day, every quarter of an hour."""
    times = pd.date_range(first, periods=days * 96, freq="15min")
    made = sensors(len(times), seed)
    made["flow"] += 3 * np.sin(2 * np.pi * (times.hour + times.minute / 60) / 24)
    made.insert(0, "timestamp", times)
    return made


@pytest.mark.parametrize("dates", ["cycle", "number"])
def test_advice_on_dates_leads_to_a_detector_of_the_next_month(
    dates: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log("2026-01-05", 35).to_csv(tmp_path / "train.csv", index=False)
    log("2026-03-02", 14, 1).to_csv(tmp_path / "march.csv", index=False)
    run = f"train --input {tmp_path}/train.csv --out {tmp_path}/run --hidden 32 6 --quiet"
    run += " --epochs 30 --calibration held-out"
    _, said = command(run, capsys, code=2)
    (advised,) = re.findall(r"or aejax train( --columns.kinds mixed), or --time", said)
    found, _ = command(f"{run}{advised} --columns.dates {dates}", capsys)
    assert found["left_out"] == {"timestamp.month": "rows of 2 of the 12 months"}
    score = f"score {tmp_path}/run --input {tmp_path}/march.csv --out {tmp_path}/march --quiet"
    assert command(score, capsys)[0]["flagged_rate"] < 0.05


@pytest.mark.slow
def test_parts_of_dates_are_chosen_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log("2026-01-05", 35).to_csv(tmp_path / "train.csv", index=False)
    run = f"train --input {tmp_path}/train.csv --out {tmp_path}/run {QUICK}"
    for flags, parts in (
        ("--columns.date-parts hour", ["hour"]),
        ("--columns.date-parts month weekday", ["weekday"]),
        ("--columns.keep timestamp.month", ["hour", "weekday", "month"]),
        ("--columns.date-parts month --columns.keep timestamp", ["month"]),
        ("--columns.dates none", []),
    ):
        command(f"{run} --overwrite --columns.kinds mixed {flags}", capsys)
        names = aejax.load(tmp_path / "run").schema.names
        assert names == (*(f"timestamp.{part}" for part in parts), *FEATURES)


def test_every_command_that_is_advised_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = log("2026-01-05", 5)
    made["took"] = made["timestamp"].diff().fillna(pd.Timedelta(0))
    made["tags"] = [["a", "b"]] * len(made)
    made["site"] = np.where(np.arange(len(made)) % 2, "A", "B")
    made["state of it"] = np.where(np.arange(len(made)) % 3, "on", "off")
    made["parts"] = [{"a": 1}] * len(made)
    made.to_parquet(tmp_path / "rows.parquet", index=False)
    made.drop(columns=["tags", "parts", "took"]).to_csv(tmp_path / "rows.csv", index=False)
    models = {
        "": "mixed",
        "--group-column site": "mixed",
        "--score residual-distance": "drop",
        "--scale.kind min-max-all": "drop",
    }
    for name in ("rows.parquet", "rows.csv"):
        for flags, offered in list(models.items())[: None if name == "rows.parquet" else 1]:
            run = f"train --input {tmp_path}/{name} {flags} {QUICK}"
            _, said = command(f"{run} --out {tmp_path}/none", capsys, code=2)
            assert said.count("\n") == 1
            assert "'timestamp' (timestamp[" in said
            advice = said.strip().partition("allowed: numbers, or ")[2].split(", or aejax train ")
            assert len(advice) == (2 if offered == "mixed" else 1)
            for number, more in enumerate(advice):
                command(f"{run} --out {tmp_path}/{name}-{number}-{len(flags)} {more}", capsys)
    frame = made[["timestamp", *FEATURES, "took"]]
    with pytest.raises(aejax.InputError, match=r"a frame without 'timestamp', 'took', or Config"):
        aejax.fit(CONFIG, frame)
    mixed = plain_config(columns=aejax.Columns(kinds="mixed"))
    with pytest.raises(aejax.InputError, match="'took' is of type duration") as refused:
        aejax.fit(mixed, frame)
    assert "mixed" not in str(refused.value)
    aejax.fit(dataclasses.replace(mixed, train=aejax.Train(epochs=1)), frame.drop(columns="took"))
