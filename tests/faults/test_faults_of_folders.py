"""A process that dies at any operation leaves the old state or the new one, never a third."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aejax
from aejax.config import InputError, read_json
from aejax.config.durable import write_file
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.detector import Detector
from aejax.exporting import export as export_folder
from aejax.recipes.own_rows import calibrate_on_file
from aejax.reporting.report import write_metrics, write_page
from aejax.training import run_folder
from tests.plain import plain_config

CONFIG = plain_config(model=aejax.Dense(hidden=(5, 2)), train=aejax.Train(epochs=2))


@pytest.fixture(scope="module")
def detectors() -> tuple[Detector, Detector]:
    x = np.random.default_rng(0).normal(size=(300, 2)) @ np.ones((2, 6))
    other = dataclasses.replace(CONFIG, train=aejax.Train(epochs=3))
    return aejax.fit(CONFIG, x), aejax.fit(other, x)


def operations(
    disk: Any, folder: Path, start: Path, act: Callable[[], object], **how: bool
) -> Iterator[int]:
    """Every operation of `act` in turn; each time in a folder as `start` is, dying there."""
    for operation in range(200):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        with disk.dying(operation, **how):
            act()
        if not disk.failed:
            assert operation > 1, "nothing was counted"
            return
        yield operation


@pytest.mark.parametrize("change", ["a threshold", "everything"])
@pytest.mark.parametrize("name", ["run", "run [1]"])
def test_a_detector_is_the_old_one_or_the_new_one(
    disk: Any, detectors: tuple[Detector, Detector], tmp_path: Path, change: str, name: str
) -> None:
    old, other = detectors
    assert old.threshold is not None
    recalibrated = old.with_threshold(dataclasses.replace(old.threshold, value=7.0))
    new = recalibrated if change == "a threshold" else other
    folder = tmp_path / name
    old.save(tmp_path / "start")
    found = set()
    for _ in operations(disk, folder, tmp_path / "start", lambda: new.save(folder), cuts=True):
        loaded = aejax.load(folder)
        assert (loaded.fingerprint, loaded.threshold) in [
            (detector.fingerprint, detector.threshold) for detector in (old, new)
        ]
        found.add(loaded.threshold == new.threshold)
        other.save(folder)
        assert aejax.load(folder).fingerprint == other.fingerprint
        assert len(list(folder.iterdir())) == 2, "something was left"
    assert False in found
    assert True in found or change == "a threshold"


def test_a_disk_that_takes_no_more_leaves_the_old_detector(
    disk: Any, detectors: tuple[Detector, Detector], tmp_path: Path
) -> None:
    old, new = detectors
    folder = tmp_path / "run"
    for operation in range(100):
        old.save(folder)
        assert len(list(folder.iterdir())) == 2, "something was left"
        said = None
        with disk.failing(operation):
            try:
                new.save(folder)
            except InputError as error:
                said = str(error)
        if not disk.failed:
            assert operation > 4
            break
        assert aejax.load(folder).fingerprint == (new if said is None else old).fingerprint
        if said is not None:
            assert "No space left on device" in said
            assert "\n" not in said


def test_calibrating_dies_between_two_thresholds(
    disk: Any, detectors: tuple[Detector, Detector], tmp_path: Path
) -> None:
    old = detectors[0]
    old.save(tmp_path / "start/detector")
    rows = tmp_path / "rows.npy"
    np.save(rows, np.random.default_rng(1).normal(size=(50, 6)))
    rule = aejax.Quantile(q=0.5)
    calibrate_on_file(tmp_path / "start", rows, rule, selection=aejax.data.rows.Selection())
    before = aejax.load(tmp_path / "start").threshold.value
    old.save(tmp_path / "start/detector")
    folder = tmp_path / "run"
    for _ in operations(
        disk,
        folder,
        tmp_path / "start",
        lambda: calibrate_on_file(folder, rows, rule, selection=aejax.data.rows.Selection()),
        cuts=True,
    ):
        assert aejax.load(folder).threshold.value in (old.threshold.value, before)


def test_a_report_and_its_numbers_stay_whole(disk: Any, tmp_path: Path) -> None:
    old, new = {"scores": b"old" * 99, "roc": b"old"}, {"scores": b"new" * 99}
    start = tmp_path / "start"
    write_page("<old>", old, start)
    write_metrics(start, None, None, {"a": 1}, {}, {})

    def act() -> None:
        write_page("<new>", new, tmp_path / "run")
        write_metrics(tmp_path / "run", None, None, {"a": 2}, {}, {})

    for _ in operations(disk, tmp_path / "run", start, act, cuts=True):
        assert (tmp_path / "run/report.html").read_text() in ("<old>", "<new>")
        assert (tmp_path / "run/plots/scores.png").read_bytes() in (b"old" * 99, b"new" * 99)
        assert read_json(tmp_path / "run/metrics.json", 1 << 20)["metrics"]["a"] in (1, 2)
    act()
    left = sorted(path.name for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert left == ["metrics.json", "report.html", "scores.png"]


def write_export(out: Path, kind: str, *, overwrite: bool = False) -> None:
    with export_folder.new_folder(out, overwrite=overwrite) as aside:
        artifact.write(
            aside, {"kind": kind, "export": {}}, {"x": np.full(9, len(kind) + ord(kind[0]))}
        )
        write_file(aside / "scorer.py", kind)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_export_is_the_old_one_or_the_new_one(
    disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(export_folder, "exchange", lambda one, other: False)
    write_export(tmp_path / "start", "old")
    out = tmp_path / "out"
    moved = 0
    for _ in operations(
        disk, out, tmp_path / "start", lambda: write_export(out, "new", overwrite=True), cuts=True
    ):
        homes = [out] if out.exists() else list(tmp_path.glob(".out-*.replaced"))
        moved += homes != [out]
        described = artifact.read_description(homes[0])
        kind = described["kind"]
        assert kind in ("old", "new")
        (value, *_) = artifact.read_arrays(
            homes[0] / described["arrays"], {"x": np.zeros(9, np.int64)}
        )["x"]
        assert value == len(kind) + ord(kind[0])
        assert (homes[0] / "scorer.py").read_text() == kind
        for left in tmp_path.glob(".out-*"):
            shutil.rmtree(left)
    # Where two names can't be swapped, there is one moment between two renames.
    assert moved == (0 if can_exchange else 1)


def test_a_run_that_was_being_replaced_is_replaced(disk: Any, tmp_path: Path) -> None:
    schema = Schema(shape=(3,))
    start, folder = tmp_path / "start", tmp_path / "run"
    run_folder.claim(start, CONFIG, schema, {"rows": "old"})
    (start / "checkpoints/3").mkdir(parents=True)
    (start / "checkpoints/3/array").write_text("old")
    (start / "metrics.json").write_text("old")

    def act(overwrite: bool = True) -> bool:
        return run_folder.claim(folder, CONFIG, schema, {"rows": "new"}, overwrite=overwrite)

    for _ in operations(disk, folder, start, act, cuts=True):
        held = folder / run_folder.IDENTITY
        if held.is_file() and read_json(held, 1 << 20)["data"]["rows"] == "old":
            with pytest.raises(InputError, match="already holds another run"):
                act(overwrite=False)
            continue
        act(overwrite=False)
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "run.json"]


def test_a_claim_that_died_can_be_made_again(disk: Any, tmp_path: Path) -> None:
    start, folder = tmp_path / "start", tmp_path / "run"
    start.mkdir()
    for _ in operations(
        disk,
        folder,
        start,
        lambda: run_folder.claim(folder, CONFIG, None, {"rows": "a"}),
        cuts=True,
    ):
        run_folder.claim(folder, CONFIG, None, {"rows": "a"})
        assert aejax.config.read_config(folder / "config.json") == CONFIG
        assert (folder / "run.json").is_file()


def test_a_folder_of_somebody_else_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds no run"):
        run_folder.claim(tmp_path, CONFIG, None, {}, overwrite=True)
    assert (tmp_path / "thesis.tex").is_file()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_system_refuses_is_one_line_and_leaves_the_old_file(
    disk: Any, tmp_path: Path, code: int
) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")
    for operation in range(2):
        with (
            pytest.raises(InputError, match=r"metrics\.json cannot be written: ") as raised,
            disk.failing(operation, code),
        ):
            write_file(path, "new")
        assert "\n" not in str(raised.value)
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]
    write_file(path, "new")
    assert path.read_text() == "new"
