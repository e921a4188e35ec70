"""What a run of the command added is judged by itself, however much was scored before it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import EXIT_LIMIT, main
from aejax.config import InputError, parse_rule
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config

COLUMNS = [f"sensor_{i}" for i in range(4)]
MIXING = np.random.default_rng(9).normal(size=(2, 4))
GOOD, SHIFTED = 3500, 500


def rows(count: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) @ MIXING + 0.1 * random.normal(size=(count, 4))
    x[:, 1] += shift * (random.random(count) < 0.7)
    table = pd.DataFrame(x.astype(np.float32), columns=COLUMNS)
    return table.assign(id=[f"{seed}-{at}" for at in range(count)])


@pytest.fixture(scope="module")
def detector() -> Detector:
    train = aejax.Train(epochs=25, learning_rate=3e-3, validation_fraction=0.5)
    config = plain_config(model=aejax.Dense(hidden=(8, 2)), train=train)
    return aejax.fit(config, rows(4000, 0)[COLUMNS])


@pytest.fixture(scope="module")
def run(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    detector.save(folder)
    return folder


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Seven good days."""
    folder = tmp_path / "days"
    folder.mkdir()
    for day in range(7):
        rows(GOOD // 7, day + 1).to_parquet(folder / f"day-{day}.parquet", index=False)
    return folder


def add(days: Path, day: int, **how: Any) -> None:
    rows(SHIFTED, day + 1, **how).to_parquet(days / f"day-{day}.parquet", index=False)


def stability(detector: Detector, scores: np.ndarray) -> float:
    """The index by its definition; an empty bin counts as half a score."""
    assert detector.threshold is not None
    edges = [-np.inf, *np.asarray(detector.threshold.deciles), np.inf]
    shares = np.maximum(np.histogram(scores.astype(np.float64), edges)[0], 0.5) / len(scores)
    return float(np.sum((shares - 0.1) * np.log(shares / 0.1)))


def check(counted: dict[str, Any], found: pd.DataFrame, detector: Detector) -> None:
    """Compare what is said of rows with pandas' counts of them."""
    assert counted["rows"] == len(found)
    assert counted["flagged"] == found["is_anomaly"].sum()
    assert counted["flagged_rate"] == pytest.approx(found["is_anomaly"].mean())
    expected = stability(detector, found["score"].to_numpy())
    assert counted["population_stability"] == pytest.approx(expected)


def test_a_new_day_is_not_drowned_by_those_before_it(
    detector: Detector, days: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    first = score_files(detector, days, out, top=5)
    assert first["alarms"] == []
    add(days, 7, shift=3.0)
    result = score_files(detector, days, out, top=5, append=True)
    scores = pd.read_parquet(out)
    new = scores["file"] == "day-7.parquet"
    check(result["added"], scores[new], detector)
    check(result, scores, detector)
    # All together hide it; by itself it is two alarms, of scores and of a feature.
    assert result["population_stability"] < 0.25 < result["added"]["population_stability"]
    assert result["added"]["features_drifted"] == 1
    assert result["alarms"] == result["added"]["alarms"]
    assert [alarm.split(" ", 2)[:2] for alarm in result["alarms"]] == [
        ["the", "scores"],
        ["sensor_1", "is"],
    ]
    assert [one["run"] for one in result["runs"]] == [2, 1]
    check(result["runs"][0], scores[new], detector)
    check(result["runs"][1], scores[~new], detector)
    assert result["runs"][1]["alarms"] == []
    assert [one["file"] for one in result["newest_files"]] == [
        f"day-{day}.parquet" for day in range(7, -1, -1)
    ]
    for one in result["newest_files"]:
        check(one, scores[scores["file"] == one["file"]], detector)
        assert one["drifted"] == (one["file"] == "day-7.parquet")
    of_files = pd.read_csv(out / "_files.csv")
    pd.testing.assert_frame_equal(
        of_files[::-1].reset_index(drop=True), pd.DataFrame(result["newest_files"])
    )
    worst = scores[new].nlargest(5, "score")["row"].tolist()
    assert pq.read_table(out / "_top_added")["row"].to_pylist() == worst
    assert json.loads((out / "_summary.json").read_text()).items() <= result.items()
    # A day that is as usual raises nothing, though the totals are worse than ever.
    add(days, 8)
    after = score_files(detector, days, out, top=5, append=True)
    assert after["alarms"] == []
    assert [bool(one["alarms"]) for one in after["runs"]] == [False, True, False]
    # The same command again, with nothing new, says again what it said.
    again = score_files(detector, days, out, top=5, append=True)
    changing = ("seconds", "rows_per_second", "resumed_at_row")
    assert {**again, **dict.fromkeys(changing)} == {**after, **dict.fromkeys(changing)}


def test_a_bad_file_among_many_of_one_run(detector: Detector, days: Path, tmp_path: Path) -> None:
    (days / "day-3.parquet").unlink()
    add(days, 3, shift=3.0)
    result = score_files(detector, days, tmp_path / "scores", part_rows=700)
    assert result["population_stability"] < 0.25
    (alarm,) = result["alarms"]
    assert "1 of " in alarm
    assert "'day-3.parquet'" in alarm
    assert [one["file"] for one in result["newest_files"] if one["drifted"]] == ["day-3.parquet"]


def test_the_end_of_one_large_file(detector: Detector, tmp_path: Path) -> None:
    both = pd.concat([rows(GOOD, 1), rows(SHIFTED, 2, shift=3.0)])
    both.to_parquet(tmp_path / "rows.parquet", index=False)
    result = score_files(detector, tmp_path / "rows.parquet", tmp_path / "scores", part_rows=1000)
    (alarm,) = result["alarms"]
    assert alarm.startswith("1 of 4 files, or parts of them, have scores distributed unlike")
    assert "rows 3000 to 3999 of 'rows.parquet'" in alarm


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".totals")
    }


@pytest.mark.parametrize("kept", ["totals", "no totals", "totals of the run before"])
def test_a_run_that_was_stopped_says_what_one_in_one_go_says(
    detector: Detector, days: Path, tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aejax.scoring.job.BLOCK_BYTES", 1)
    how: dict[str, Any] = {"part_rows": 200, "batch_size": 100, "top": 9}
    score_files(detector, days, tmp_path / "one", **how)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = (tmp_path / "two" / ".totals").read_bytes()
    add(days, 7, shift=3.0)
    whole = score_files(detector, days, tmp_path / "one", append=True, **how)
    stops = 0
    for last in (3, 3, 9):
        asked: list[int] = []

        def soon(asked: list[int] = asked, last: int = last) -> bool:
            asked.append(0)
            return len(asked) == last

        try:
            score_files(detector, days, tmp_path / "two", append=True, should_stop=soon, **how)
            break
        except Interrupted:
            stops += 1
        if kept == "no totals":
            (tmp_path / "two" / ".totals").unlink()
        elif kept != "totals":
            (tmp_path / "two" / ".totals").write_bytes(before)
    resumed = score_files(detector, days, tmp_path / "two", append=True, **how)
    assert stops == 2
    assert resumed["added"] == whole["added"]
    assert resumed["added"]["rows"] == SHIFTED
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_files_that_come_before_a_run_has_finished_belong_to_it(
    detector: Detector, days: Path, tmp_path: Path
) -> None:
    """A night that was killed is judged with the next one: nobody heard of it."""
    out = tmp_path / "scores"
    score_files(detector, days, out)
    add(days, 7, shift=3.0)
    with pytest.raises(Interrupted):
        score_files(detector, days, out, append=True, should_stop=lambda: True)
    add(days, 8)
    result = score_files(detector, days, out, append=True)
    assert result["added"]["run"] == 2
    assert result["added"]["files"] == 2
    assert result["added"]["rows"] == 2 * SHIFTED
    assert any("'day-7.parquet'" in alarm for alarm in result["alarms"])


def test_exit_codes_for_schedulers(
    run: Path,
    days: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["score", str(run), "--input", str(days), "--out", str(tmp_path / "out"), "--append"]
    command += ["--quiet"]
    flags = ["--fail-on-drift", "--fail-on-flagged", "0.05"]
    assert main([*command, *flags]) == 0
    assert "added" not in capsys.readouterr().out
    add(days, 7, shift=3.0)
    assert main([*command, *flags]) == EXIT_LIMIT == 3
    said = capsys.readouterr()
    assert "of the added rows are flagged; allowed: 0.05" in said.err
    shown = said.out.splitlines()
    assert shown[0].startswith(f"added: {SHIFTED} rows of 1 file, ")
    assert shown[1].startswith("alarm: the scores are distributed unlike")
    assert shown[3] == "files, the newest first:"
    assert shown[4].startswith(f"  day-7.parquet: {SHIFTED} rows, ")
    assert shown[4].endswith(", drifted")
    # Whoever tries again is warned again, and each limit by itself.
    assert main([*command, "--fail-on-drift"]) == 3
    assert "the added rows raised an alarm: the scores" in capsys.readouterr().err
    assert main([*command, "--fail-on-flagged", "0.9"]) == 0
    assert main([*command, "--fail-on-flagged", "0"]) == 3
    assert main(command) == 0
    capsys.readouterr()
    add(days, 8)
    assert main([*command, *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"]["run"] == 3
    rows(50, 9, shift=3.0).to_parquet(days / "day-8a.parquet", index=False)
    with caplog.at_level("WARNING", logger="aejax"):
        assert main([*command, "--fail-on-drift"]) == 0
    assert "50 added rows are too few to tell drift by" in caplog.text
    # Rows that can't be judged aren't good ones.
    pd.DataFrame(np.nan, index=range(300), columns=[*COLUMNS, "id"]).to_parquet(
        days / "day-9.parquet"
    )
    assert main([*command, "--fail-on-drift"]) == 3
    assert "none of the 300 added rows has a score" in capsys.readouterr().err
    # Nor are they among good ones.
    lost = pd.read_parquet(days / "day-9.parquet").iloc[:200]
    lost.to_parquet(days / "day-9a.parquet")
    rows(SHIFTED, 10).to_parquet(days / "day-9b.parquet", index=False)
    assert main([*command, "--fail-on-drift"]) == 3
    said = capsys.readouterr()
    alarm = "most rows of 1 of 2 files have no score: 'day-9a.parquet' (200 of 200)"
    assert f"the added rows raised an alarm: {alarm}" in said.err
    assert f"alarm: {alarm}" in said.out
    assert "  day-9a.parquet: 200 rows, 200 without a score" in said.out


def test_limits_that_nothing_could_exceed_are_refused(
    detector: Detector, days: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = dataclasses.replace(detector, thresholds={}, variables=dict(detector.variables))
    bare.variables.pop("normal", None)
    fixed = bare.with_threshold(
        dataclasses.replace(detector.threshold, deciles=None, rule=parse_rule("fixed:1"))
    )
    fixed.save(tmp_path / "fixed")
    command = ["--input", str(days), "--out", str(tmp_path / "out"), "--quiet"]
    for name, flags, said in (
        ("fixed", ["--fail-on-flagged", "5"], "--fail-on-flagged is 5.0; allowed: a share, 0 to 1"),
        ("fixed", ["--fail-on-flagged", "-0.1"], "--fail-on-flagged is -0.1"),
        ("fixed", ["--fail-on-drift"], "to measure drift by"),
    ):
        assert main(["score", str(tmp_path / name), *command, *flags]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def grouped() -> aejax.Detector:
    table = rows(4000, 0)
    train = aejax.Train(epochs=15, learning_rate=3e-3, validation_fraction=0.5)
    config = plain_config(model=aejax.Dense(hidden=(8, 2)), train=train)
    return aejax.fit(config, table[COLUMNS], groups=np.arange(4000) % 4, group_column="store")


def test_a_days_groups_are_counted_and_judged_by_themselves(
    grouped: aejax.Detector, tmp_path: Path
) -> None:
    days, out = tmp_path / "days", tmp_path / "scores"
    days.mkdir()
    for day in range(4):
        table = rows(2000, day + 1)
        table["store"] = np.arange(2000) % 4
        if day == 3:
            table = table[:800].copy()
            odd = table["store"] == 2
            table.loc[odd, "sensor_1"] += 3
            table.loc[5, "store"] = 99
        table.to_parquet(days / f"{day}.parquet", index=False)
    hidden = tmp_path / "3.parquet"
    (days / "3.parquet").rename(hidden)
    assert score_files(grouped, days, out)["alarms"] == []
    hidden.rename(days / "3.parquet")
    result = score_files(grouped, days, out, append=True)
    assert result["groups"]["drifted"] == 0
    assert result["added"]["groups"]["drifted"] == 1
    assert any("1 of 4 groups had scores unlike" in alarm for alarm in result["alarms"])
    assert result["added"]["most_flagged_groups"][0]["group"] == "2"
    assert result["added"]["unknown_groups"]["rows"] == 1
    scores = pd.read_parquet(out)
    counted = pd.read_csv(out / "_groups.csv", dtype={"store": str}).set_index("store")
    for name in "0123":
        own = scores[scores["store"] == int(name)]
        new = own[own["file"] == "3.parquet"]
        assert counted.loc[name, "rows"] == len(own)
        assert counted.loc[name, "added_rows"] == len(new)
        assert counted.loc[name, "added_flagged"] == new["is_anomaly"].sum()
    assert counted.loc["99", "added_rows"] == 1


def test_many_groups_of_few_rows_that_drift_together(
    grouped: aejax.Detector, tmp_path: Path
) -> None:
    """Each by itself has too few rows to say; all together haven't."""
    table = rows(320, 5, shift=3.0)
    table["store"] = np.arange(320) % 4
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    result = score_files(grouped, tmp_path / "rows.parquet", tmp_path / "scores")
    assert result["groups"]["drifted"] == 0
    scores = pd.read_parquet(tmp_path / "scores")
    bins = np.zeros(10)
    for at, threshold in enumerate(grouped.threshold.each):
        own = scores["score"][scores["store"] == at].to_numpy()
        edges = [-np.inf, *np.asarray(threshold.deciles), np.inf]
        bins += np.histogram(own.astype(np.float64), edges)[0]
    shares = np.maximum(bins, 0.5) / 320
    expected = np.sum((shares - 0.1) * np.log(shares / 0.1))
    assert result["population_stability"] == pytest.approx(expected)
    assert [alarm[:10] for alarm in result["alarms"]] == ["the scores"]


def test_keys_are_carried_whatever_they_are_called(detector: Detector, tmp_path: Path) -> None:
    table = rows(50, 3).assign(score=np.arange(50), key_score="x", file="f", row=7)
    table.to_parquet(tmp_path / "rows.parquet", index=False)
    keys = ("id", "score", "id", "key_score", "file", "row")
    score_files(
        detector, tmp_path / "rows.parquet", tmp_path / "out", selection=Selection(key_columns=keys)
    )
    found = pd.read_parquet(tmp_path / "out")
    names = ["id", "key_key_score", "key_score", "file", "key_row"]
    assert list(found)[:7] == [*names, "row", "score"]
    assert found["id"].tolist() == table["id"].tolist()
    assert found["key_key_score"].tolist() == list(range(50))
    assert found["row"].tolist() == list(range(50))
    # Where scores name files, that name is taken, too.
    score_files(
        detector, tmp_path / "rows.p*", tmp_path / "many", selection=Selection(key_columns=keys)
    )
    assert {"file", "key_file"} <= set(pq.read_table(tmp_path / "many").column_names)


def test_keys_of_other_types_in_later_files(detector: Detector, tmp_path: Path) -> None:
    days, out = tmp_path / "days", tmp_path / "out"
    days.mkdir()
    keyed = Selection(key_columns=("number",))
    table = rows(60, 1).assign(number=np.arange(60))
    table[:30].to_parquet(days / "1.parquet", index=False)
    table[30:50].astype({"number": float}).to_parquet(days / "2.parquet", index=False)
    score_files(detector, days, out, selection=keyed, top=3)
    table[50:].astype({"number": str}).to_parquet(days / "3.parquet", index=False)
    score_files(detector, days, out, selection=keyed, top=3, append=True)
    assert pq.read_table(out)["number"].to_pylist() == list(range(60))
    table[:5].assign(number="007").to_parquet(days / "4.parquet", index=False)
    with pytest.raises(InputError, match=r"column 'number' is of type .*string in one file and of"):
        score_files(detector, days, out, selection=keyed, top=3, append=True)
