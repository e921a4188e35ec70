"""Scoring on Ray writes the very parts of the engine in one process, and goes on like it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax import cli
from aejax.config import InputError
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.scoring import job
from aejax.scoring.ray import RayEngine, _place
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config

KEYS = Selection(key_columns=("id",))
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason='Ray is not installed: pip install "aejax[ray]"')


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, once for all tests: starting it takes seconds."""
    if not HAS_RAY:
        pytest.skip("Ray is not installed")
    import ray

    from aejax.scoring import ray as ours

    ours._start(ray, None)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def inputs(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as three files in a folder, whose ends are not those of parts."""
    folder = tmp_path_factory.mktemp("rows")
    for number, (first, last) in enumerate([(0, 700), (700, 1900), (1900, 3000)]):
        table[first:last].to_parquet(folder / f"{number}.parquet", row_group_size=256)
    return folder


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def journal(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "_parts.jsonl").read_text().splitlines()]


def same_folders(found: Path, expected: Path) -> None:
    assert parts(found) == parts(expected)
    assert journal(found) == journal(expected)
    assert (found / "_files.csv").read_bytes() == (expected / "_files.csv").read_bytes()
    for name in ("_manifest.json", "_summary.json"):
        assert json.loads((found / name).read_text()) == json.loads((expected / name).read_text())
    assert (found / "_SUCCESS").is_file()


@needs_ray
@pytest.mark.filterwarnings("default")  # Ray's own.
def test_parts_and_journal_are_those_of_one_process(
    detector: Detector, run_folder: Path, inputs: Path, tmp_path: Path, cluster: None
) -> None:
    how: dict[str, Any] = {"selection": KEYS, "part_rows": 400, "top_features": 2, "top": 5}
    engine = RayEngine(run_folder=run_folder, inputs=inputs, selection=KEYS, actors=2)
    expected = score_files(detector, inputs, tmp_path / "one", **how)
    found = score_files(detector, inputs, tmp_path / "ray", engine=engine, **how)
    same_folders(tmp_path / "ray", tmp_path / "one")
    assert found["bad_rows"] == expected["bad_rows"] == 4
    top = [pd.read_parquet(tmp_path / name / "_top") for name in ("one", "ray")]
    pd.testing.assert_frame_equal(*top)


@needs_ray
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("ray_first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_either_engine_goes_on_where_the_other_stopped(
    detector: Detector,
    run_folder: Path,
    inputs: Path,
    tmp_path: Path,
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    ray_first: bool,
) -> None:
    ray_engine = RayEngine(run_folder=run_folder, inputs=inputs, actors=1)
    first, then = (ray_engine, None) if ray_first else (None, ray_engine)
    how: dict[str, Any] = {"part_rows": 300, "batch_size": 100}
    # One batch a block, so that the engine in this process is asked about stopping often.
    monkeypatch.setattr(job, "BLOCK_BYTES", 1)
    score_files(detector, inputs, tmp_path / "whole", **how)
    asked = 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        return asked >= (3 if ray_first else 9)

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        score_files(detector, inputs, out, engine=first, should_stop=soon, **how)
    listed = journal(out)
    assert 0 < len(listed) < 10
    before = {part["name"]: (out / part["name"]).stat().st_mtime_ns for part in listed}
    result = score_files(detector, inputs, out, engine=then, **how)
    assert result["resumed_at_row"] == 300 * len(listed)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    same_folders(out, tmp_path / "whole")


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_groups_are_scored_and_counted_as_in_one_process(
    table: pd.DataFrame, tmp_path: Path, cluster: None
) -> None:
    rows = table.assign(place=table.index % 3)
    sensors = [name for name in rows.columns if name.startswith("sensor")]
    config = plain_config(model=aejax.Dense(hidden=(4, 2)), train=aejax.Train(epochs=2))
    some = rows[600:1200]
    detectors = aejax.fit(config, some[sensors], groups=some["place"], group_column="place")
    detectors.save(tmp_path / "run")
    rows.loc[50:90, "place"] = 7
    rows.loc[2500:2600, "place"] = 8
    path = tmp_path / "rows.parquet"
    rows.rename(columns={"place": "site"}).to_parquet(path, index=False)
    how: dict[str, Any] = {"selection": KEYS, "group_column": "site", "part_rows": 400}
    engine = RayEngine(run_folder=tmp_path / "run", inputs=path, selection=KEYS, actors=2)
    expected = score_files(detectors, path, tmp_path / "one", **how)
    found = score_files(detectors, path, tmp_path / "ray", engine=engine, **how)
    same_folders(tmp_path / "ray", tmp_path / "one")
    seen = {one["group"]: one["rows"] for one in found["unknown_groups"]["most"]}
    assert seen == {"7": 41, "8": 101}
    assert found["most_flagged_groups"] == expected["most_flagged_groups"]
    tables = [(tmp_path / name / "_groups.csv").read_bytes() for name in ("one", "ray")]
    assert tables[0] == tables[1]


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_files_that_do_not_say_how_many_rows_they_have(
    detector: Detector, run_folder: Path, table: pd.DataFrame, tmp_path: Path, cluster: None
) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    table[:1100].to_csv(folder / "a.csv", index=False)
    table[1100:].to_csv(folder / "b.csv.gz", index=False)
    inputs = [str(folder / "a.csv"), str(folder / "b.csv.gz")]
    engine = RayEngine(run_folder=run_folder, inputs=inputs, selection=KEYS, actors=2)
    how: dict[str, Any] = {"selection": KEYS, "part_rows": 640}
    score_files(detector, inputs, tmp_path / "one", **how)
    score_files(detector, inputs, tmp_path / "ray", engine=engine, **how)
    same_folders(tmp_path / "ray", tmp_path / "one")
    # More files come in behind those.
    table[:500].to_csv(folder / "c.csv", index=False)
    more = [*inputs, str(folder / "c.csv")]
    engine = RayEngine(run_folder=run_folder, inputs=more, selection=KEYS)
    score_files(detector, more, tmp_path / "one", append=True, **how)
    score_files(detector, more, tmp_path / "ray", engine=engine, append=True, **how)
    same_folders(tmp_path / "ray", tmp_path / "one")
    written = json.loads((tmp_path / "ray" / "_summary.json").read_text())
    assert [one["run"] for one in written["runs"]] == [2, 1]
    assert written["added"]["rows"] == 500


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("default")
def test_what_is_wrong_in_an_actor_is_one_line_here(
    detector: Detector, run_folder: Path, inputs: Path, tmp_path: Path, cluster: None
) -> None:
    engine = RayEngine(run_folder=run_folder, inputs=inputs)
    with pytest.raises(InputError, match=r"row 7 \(7 of all\): sensor_1 is missing or NaN") as seen:
        score_files(
            detector, inputs, tmp_path / "out", engine=engine, part_rows=500, on_bad_row="error"
        )
    assert "\n" not in str(seen.value)
    other = detector.calibrate(pd.read_parquet(inputs).drop(columns="id")[1000:1100])
    with pytest.raises(InputError, match=r"holds the detector .* where parts are scored"):
        score_files(other, inputs, tmp_path / "other", engine=engine)


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_command(
    detector: Detector,
    run_folder: Path,
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(inputs.parent)
    command = ["score", str(run_folder), "--input", inputs.name, "--quiet", "--json"]
    command += ["--part-rows", "1000"]
    assert cli.main([*command, "--out", str(tmp_path / "ray"), "--engine", "ray"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == 3
    assert cli.main([*command, "--out", str(tmp_path / "one")]) == 0
    same_folders(tmp_path / "ray", tmp_path / "one")


def test_without_ray_the_way_to_get_it_is_named(
    run_folder: Path,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["score", str(run_folder), "--input", str(inputs), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--engine", "ray", "--quiet"]) == 2
    seen = capsys.readouterr().err
    assert seen == 'aejax: ray is not installed; allowed: pip install "aejax[ray]"\n'
    assert cli.main([*command, "--ray-address", "auto"]) == 2
    assert "allowed: with --engine ray" in capsys.readouterr().err


def test_a_row_is_found_in_its_file() -> None:
    counts = [5, 0, 3, 10]
    ends = pd.Series(counts).cumsum().to_numpy()
    rows = [(file, row) for file, count in enumerate(counts) for row in range(count)]
    for start, (file, row) in enumerate(rows):
        place = _place(ends, start, 100)
        assert (place.file, place.row, place.first_row) == (file, row, 100 + start)


@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_series_on_ray_has_the_bytes_of_one_process(
    inputs: Path, tmp_path: Path, cluster: None
) -> None:
    """Parts take the rows that their windows reach into from other parts and files."""
    table = pd.concat(map(pd.read_parquet, sorted(inputs.glob("*.parquet"))))
    rows = table.drop(columns="id").assign(when=np.arange(len(table)) * 60.0)
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, (first, last) in enumerate([(0, 700), (700, 705), (705, 3000)]):
        rows[first:last].to_parquet(folder / f"{number}.parquet", row_group_size=256)
    config = plain_config(
        model=aejax.Dense(hidden=(4,)),
        train=aejax.Train(steps=20),
        window=aejax.Window(length=12, time="when", scores="centred"),
    )
    aejax.fit(config, rows[:600]).save(tmp_path / "run")
    detector = aejax.load(tmp_path / "run")
    how: dict[str, Any] = {"part_rows": 400, "batch_size": 64, "top_features": 1}
    engine = RayEngine(run_folder=tmp_path / "run", inputs=folder, selection=Selection(), actors=2)
    score_files(detector, folder, tmp_path / "one", **how)
    score_files(detector, folder, tmp_path / "ray", engine=engine, **how)
    same_folders(tmp_path / "ray", tmp_path / "one")
    events = (tmp_path / "ray" / "_events.csv").read_bytes()
    assert events == (tmp_path / "one" / "_events.csv").read_bytes()
