"""The comparison of detectors is fair: what each is given, and what is made of its scores."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from aejax.detection.detector import Detector
from aejax.detection.population import Population
from benchmarks import detection, detection_ecg, detection_report
from benchmarks.detectors import ENTRIES, protocol, with_aejax
from tests.row_scores import in_float64

LIMITS = {"most_train": 10_000, "most_test": 20_000}


def table(normal: int = 61, anomalies: int = 9, features: int = 4) -> protocol.Table:
    """Normal rows in an order that tells: their first feature counts up."""
    random = np.random.default_rng(3)
    x = random.normal(size=(normal + anomalies, features)).astype(np.float32)
    x[:, 0] = np.arange(len(x))
    x[normal:, 1] += 6
    return protocol.Table(name="made", x=x, is_anomaly=np.arange(len(x)) >= normal)


def write(folder: Path, made: protocol.Table) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"7_{made.name}.npz"
    np.savez(path, X=made.x.astype(np.float64), y=made.is_anomaly.astype(np.int64))
    return path


def test_half_of_the_normal_rows_train_and_no_row_does_both() -> None:
    made = table()
    split = protocol.split(made, "normals", 0, **LIMITS)
    both = np.concatenate([split.train_rows, split.test_rows])
    # Every row of the table once: none drawn twice, none on both sides, none left out.
    np.testing.assert_array_equal(np.sort(both), np.arange(70))
    assert len(split.train) == 30
    assert not made.is_anomaly[split.train_rows].any()
    assert split.is_anomaly.sum() == 9
    np.testing.assert_array_equal(split.test, made.x[split.test_rows])
    assert split.repeated == 0


def test_normal_rows_are_shuffled_and_each_seed_has_its_own_half() -> None:
    halves = [protocol.split(table(), "normals", seed, **LIMITS).train_rows for seed in (0, 0, 1)]
    np.testing.assert_array_equal(halves[0], halves[1])
    assert set(halves[0]) != set(halves[2])
    # Unshuffled, the first half trains: its positions average 14.5, those of all rows 30.
    assert 20 < np.mean(halves[0]) < 40
    order = protocol.split(table(), "normals", 0, **LIMITS).is_anomaly
    # Anomalies are not left at the end.
    assert np.flatnonzero(order).min() < 30


@pytest.mark.parametrize("normal", [60, 61])
def test_the_literatures_split_trains_on_the_first_half_of_the_file(normal: int) -> None:
    made = table(normal=normal)
    split = protocol.split(made, "first-half", 0, **LIMITS)
    np.testing.assert_array_equal(np.sort(split.train_rows), np.arange(30))
    both = np.concatenate([split.train_rows, split.test_rows])
    np.testing.assert_array_equal(np.sort(both), np.arange(len(made.x)))
    some = protocol.split(made, "first-half", 0, most_train=10, most_test=20)
    assert len(some.train_rows) == 10
    assert some.train_rows.max() < 30


def test_large_tables_are_cut_down_with_their_share_of_anomalies() -> None:
    made = table(normal=900, anomalies=100)
    split = protocol.split(made, "normals", 0, most_train=50, most_test=110)
    assert (len(split.train), len(split.test)) == (50, 110)
    assert split.is_anomaly.sum() == 20
    assert not set(split.train_rows) & set(split.test_rows)
    whole = protocol.split(made, "all", 0, most_train=50, most_test=200)
    assert (len(whole.train), whole.is_anomaly.sum()) == (50, 20)
    np.testing.assert_array_equal(whole.train_rows, whole.test_rows[:50])
    assert made.is_anomaly[whole.train_rows].any()


def test_rows_are_scaled_by_training_rows_alone() -> None:
    split = protocol.split(table(), "normals", 0, **LIMITS)
    expected = StandardScaler().fit(split.train.astype(np.float64))
    train, test = split.scaled
    np.testing.assert_allclose(train, expected.transform(split.train), atol=1e-5)
    np.testing.assert_allclose(test, expected.transform(split.test).clip(-20, 20), atol=1e-5)
    wild = dataclasses.replace(split, test=split.test + 1e6)
    np.testing.assert_array_equal(wild.scaled[0], train)
    assert wild.scaled[1].max() == 20


def test_aejax_scales_as_the_peers_rows_are_scaled() -> None:
    split = protocol.split(table(), "normals", 0, **LIMITS)
    configured = with_aejax.config(with_aejax.Form(hidden=(2,)), split, 0, quick=True)
    detector = with_aejax._fresh(configured, split)
    np.testing.assert_allclose(detector.reconstruct(split.test)[0], split.scaled[1], atol=1e-6)


def test_rows_that_a_table_repeats_are_counted_and_can_be_dropped() -> None:
    made = table()
    twice = protocol.Table(
        name="twice",
        x=np.concatenate([made.x, made.x[:61]]),
        is_anomaly=np.concatenate([made.is_anomaly, made.is_anomaly[:61]]),
    )
    split = protocol.split(twice, "normals", 0, **LIMITS)
    kept = {row.tobytes() for row in split.train}
    normal = split.test[~split.is_anomaly]
    assert split.repeated == sum(row.tobytes() in kept for row in normal) > 10
    np.testing.assert_array_equal(protocol.distinct(twice).x, made.x)
    assert protocol.split(protocol.distinct(twice), "normals", 0, **LIMITS).repeated == 0


def fresh(split: protocol.Split) -> Detector:
    return with_aejax._fresh(with_aejax.config(with_aejax.Form(), split, 5, quick=True), split)


def rescored(one: Detector, score: str, split: protocol.Split) -> Detector:
    (found,) = with_aejax.rescored(
        Population(detectors=(one,), problems={}), score, split
    ).detectors
    assert found is not None
    return found


def test_residuals_are_whitened() -> None:
    split = protocol.split(table(), "normals", 0, **LIMITS)
    one = fresh(split)
    assert not any(np.any(layer["bias"]) for layer in one.variables["params"].values())
    train, test = (
        (scaled.astype(np.float64) - found)
        for scaled, found in (one.reconstruct(split.train), one.reconstruct(split.test))
    )
    expected = LedoitWolf().fit(train).mahalanobis(test) / 4
    found = rescored(one, "residual-distance", split).score(split.test)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_no_row_is_its_own_neighbour() -> None:
    split = protocol.split(table(), "all", 0, most_train=40, most_test=100)
    one = fresh(split)
    train, test = split.scaled
    assert np.abs(train).max() < 4
    far = np.concatenate(
        [
            in_float64.distance(train, train, itself=True),
            in_float64.distance(train, test[40:].clip(-4, 4)),
        ]
    )
    found = rescored(one, "error-and-neighbours", split).score(split.test)
    np.testing.assert_allclose(found, in_float64.joined(one.score(split.test), far), rtol=1e-4)


def test_intervals_are_over_seeds_and_sets_are_fixed() -> None:
    assert detection_report.interval([[0.5, 0.5], [0.9, 0.9]]) == pytest.approx(
        {"mean": 0.7, "low": 0.7, "high": 0.7}
    )
    found = detection_report.interval([[0.4, 0.6], [0.8, 1.0]])
    assert found["low"] == pytest.approx(0.6)
    assert found["high"] == pytest.approx(0.8)
    assert detection_report.interval([[0.4], [0.8]])["low"] is None


def run_main(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    detection.main(given)
    return capsys.readouterr().out


def test_a_stopped_comparison_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sets", table())
    monkeypatch.setattr(
        with_aejax, "plain", lambda split, *_: protocol.Scored(split.test[:, 1]), raising=False
    )
    other = dataclasses.replace(ENTRIES["pyod-pca"], place="with_aejax:plain")
    monkeypatch.setitem(ENTRIES, "pyod-pca", other)
    results, lines = tmp_path / "found.json", tmp_path / "found.jsonl"
    given = (
        *("--folder", str(tmp_path / "sets"), "--json", str(results), "--quick"),
        *("--protocol", "both", "--seeds", "2", "--plot", str(tmp_path / "found.png")),
        *("--detectors", "norm", "pyod-pca"),
    )
    shown = run_main(capsys, *given)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(results.read_text())
    assert len(found["runs"]) == len(lines.read_text().splitlines()) == 2 * 2 * 2
    assert "| norm | 9" in shown
    summary = found["summary"]["normals"]["norm"]
    by_seed = [
        run["auroc"]
        for run in found["runs"]
        if run["detector"] == "norm" and run["protocol"] == "normals"
    ]
    assert summary["auroc"]["mean"] == pytest.approx(np.mean(by_seed))
    # The last line is cut off, as by a stop: only its run is done again.
    whole = lines.read_text()
    lines.write_text(whole[:-20])
    ran: list[Any] = []
    run = detection._run
    monkeypatch.setattr(detection, "_run", lambda *given: ran.append(given) or run(*given))
    again = run_main(capsys, *given)
    assert len(ran) == 1
    assert "| norm | 9" in again
    assert json.loads(results.read_text())["summary"]["all"]["norm"]["seeds"] == [2]
    # And nothing is done where only what is there is asked for.
    more = run_main(capsys, *given, "--seeds", "3", "--gather")
    assert len(ran) == 1
    assert "| norm | 9" in more


def test_networks_take_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "sets", table())
    given = ("--folder", str(tmp_path / "sets"), "--quick", "--seeds", "1")
    shown = run_main(capsys, *given, "--detectors", "dense-whitened")
    cells = next(line for line in shown.splitlines() if line.startswith("| dense-whitened"))
    # Anomalies lie six standard deviations off in one feature.
    assert float(cells.split("|")[2]) > 80


def test_a_detector_that_fails_or_is_missing_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sets", table())
    given = ("--folder", str(tmp_path / "sets"), "--quick", "--seeds", "1")

    def broken(*_: Any) -> protocol.Scored:
        raise RuntimeError("no more")

    monkeypatch.setattr(with_aejax, "norm", broken)
    absent = dataclasses.replace(ENTRIES["pyod-pca"], place="with_absent:none")
    monkeypatch.setitem(ENTRIES, "pyod-pca", absent)
    shown = run_main(capsys, *given, "--detectors", "norm", "pyod-pca")
    assert "- norm failed on made: RuntimeError: no more" in shown
    assert "- pyod-pca: missing (ModuleNotFoundError" in shown


def test_bad_tables_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "1_one.npz", X=np.zeros((4, 2)), y=np.array([0, 0, 1, 2]))
    with pytest.raises(ValueError, match=r"1_one\.npz: allowed: .*0 and 1 in y"):
        protocol.read("one", tmp_path / "1_one.npz")
    with pytest.raises(SystemExit, match=r"allowed: a folder with \.npz files"):
        protocol.tables(tmp_path / "none")
    assert list(protocol.tables(tmp_path)) == ["one"]


def test_held_out_scores_come_from_networks_that_did_not_see_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    beats = detection_ecg.Beats(
        train=random.normal(size=(23, 3)).astype(np.float32),
        anomalous=random.normal(size=(5, 3)).astype(np.float32),
        test=random.normal(size=(7, 3)).astype(np.float32),
        is_anomaly=np.arange(7) > 3,
    )

    def seen(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A score of 1 for each row that was in the training."""
        trained = {row.tobytes() for row in rows}
        return np.array([float(row.tobytes() in trained) for row in x])

    class Counting:
        def __init__(self, rows: np.ndarray) -> None:
            self.rows = rows

        def score(self, x: np.ndarray) -> np.ndarray:
            return seen(beats.train[self.rows], x)

    class Population:
        def __init__(self, rows: list[np.ndarray]) -> None:
            self.detectors = [Counting(picked) for picked in rows]

    monkeypatch.setattr(
        detection_ecg, "fit_population", lambda configs, x, *, rows: Population(rows)
    )
    monkeypatch.setattr(
        with_aejax, "norm", lambda split, *_: protocol.Scored(seen(split.train, split.test))
    )
    for judged in (
        detection_ecg.averaged(with_aejax.Form(), beats, 0, quick=False),
        detection_ecg.of_peer("norm", beats, 0, quick=False),
    ):
        np.testing.assert_array_equal(judged.held, np.zeros(23))
        np.testing.assert_array_equal(judged.anomalous, np.zeros(5))
        np.testing.assert_array_equal(judged.test, np.zeros(7))


@pytest.mark.skipif(not os.environ.get("AEJAX_DATA_DIR"), reason="AEJAX_DATA_DIR is not set")
def test_the_tutorials_split_of_heartbeats() -> None:
    beats = detection_ecg.read(Path(os.environ["AEJAX_DATA_DIR"]) / "ecg5000" / "ecg.csv")
    # The tutorial's own counts: 2,359 normal training rows, 560 and 440 test rows.
    assert beats.train.shape == (2359, 140)
    assert (int((~beats.is_anomaly).sum()), int(beats.is_anomaly.sum())) == (560, 440)
    assert len(beats.train) + len(beats.anomalous) == 3998
