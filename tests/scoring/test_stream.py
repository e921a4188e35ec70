"""What a scored folder holds, for every input, and what a changed or broken job gets."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.config import InputError
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.placed import default_batch_size
from aejax.scoring import manifest
from aejax.scoring.inspection import inspect_folder
from aejax.scoring.stream import default_part_rows, score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config

KEYS = Selection(key_columns=("id",))


def scores_of(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder).to_pandas()


def expected_scores(detector: Detector, table: pd.DataFrame) -> np.ndarray:
    """What the detector gives in batches of a job's size, NaN for rows that it refuses."""
    x = table[list(detector.schema.names or ())].to_numpy(np.float32)
    scores = np.full(len(x), np.nan, np.float32)
    good = np.isfinite(x).all(axis=1)
    whole = default_batch_size(detector.schema, detector.config)
    scores[good] = detector.score(x[good], batch_size=whole)
    return scores


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != manifest.LOCK
    }


@pytest.fixture
def rows_file(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    table.to_parquet(path, index=False, row_group_size=700)
    return path


def test_scores_flags_reasons_and_top_features(
    detector: Detector, table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    result = score_files(detector, rows_file, out, selection=KEYS, top_features=2, part_rows=1000)
    found, expected = scores_of(out), expected_scores(detector, table)
    # Another program than that of the scores alone: rounded elsewhere.
    np.testing.assert_allclose(found["score"], expected, rtol=1e-6)
    assert list(found["id"]) == list(table["id"])
    bad = np.flatnonzero(np.isnan(expected)).tolist()
    assert bad == [7, 130, 500, 2999]
    assert found["reason"][bad].tolist() == [
        "sensor_1 is missing or NaN",
        "sensor_1 is missing or NaN",
        "sensor_4 is infinite",
        "sensor_1 is missing or NaN",
    ]
    assert found["reason"].notna().sum() == found["is_anomaly"].isna().sum() == 4
    good = np.setdiff1d(np.arange(3000), bad)
    assert detector.threshold is not None
    flags = expected[good] > detector.threshold.value
    np.testing.assert_array_equal(found["is_anomaly"][good].astype(bool), flags)
    reasons = detector.explain(table[list(detector.schema.names or ())].iloc[140:141], top=2)[0]
    assert list(found["top_features"][140]) == [reason.feature for reason in reasons]
    np.testing.assert_allclose(found["top_errors"][140], [r.error for r in reasons], rtol=1e-6)
    for name, cells in (("top_found", "found"), ("top_expected", "expected")):
        own = [getattr(reason, cells) for reason in reasons]
        np.testing.assert_allclose(found[name][140], own, rtol=1e-6)
    assert result["flagged"] == flags.sum()
    assert result["flagged_rate"] == flags.mean()
    assert result["bad_rows_by_reason"] == {"infinite": 1, "missing or NaN": 3}
    described = json.loads((out / "_summary.json").read_text())
    assert described.items() <= result.items()
    assert inspect_folder(out)["summary"] == described


def test_the_summary_and_the_top_agree_with_numpy(
    detector: Detector, table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    result = score_files(detector, rows_file, out, selection=KEYS, top=100, part_rows=256)
    expected = expected_scores(detector, table)
    scores = expected[np.isfinite(expected)]
    assert result["lowest"] == scores.min()
    assert result["highest"] == scores.max()
    for q, value in result["quantiles"].items():
        # The sketch is as good as its rank: within 0.5 % of the one asked for.
        assert np.mean(scores < value) - 0.005 <= float(q) <= np.mean(scores <= value) + 0.005
    counts, _ = np.histogram(scores.astype(np.float64), result["histogram"]["edges"])
    assert counts.tolist() == result["histogram"]["counts"]
    assert counts.sum() == len(scores)
    top = pq.read_table(out / manifest.TOP).to_pandas()
    order = np.lexsort((np.arange(3000), -np.nan_to_num(expected, nan=-1)))[:100]
    assert top["row"].tolist() == order.tolist()
    np.testing.assert_array_equal(top["score"], expected[order])
    assert top["id"].tolist() == table["id"][order].tolist()


def test_the_folder_is_one_data_set_for_everyone(
    detector: Detector, rows_file: Path, tmp_path: Path
) -> None:
    import duckdb
    import polars

    out = tmp_path / "scores"
    score_files(detector, rows_file, out, selection=KEYS, top=10, top_features=1, part_rows=700)
    expected = scores_of(out).drop(
        columns=["top_features", "top_errors", "top_found", "top_expected"]
    )
    # A category in pandas, Categorical in Polars, text in DuckDB.
    assert expected["reason"].dtype == "category"
    expected = expected.astype({"reason": object})
    found = {
        "pyarrow": pyarrow.dataset.dataset(out).to_table().to_pandas(),
        "pandas": pd.read_parquet(out),
        "polars": polars.read_parquet(out / "*.parquet").to_pandas(),
        "duckdb": duckdb.connect().execute(f"select * from '{out}/*.parquet'").df(),
    }
    for name, table in found.items():
        table = table[list(expected)].astype({"reason": object})
        table = table.sort_values("row", ignore_index=True)
        pd.testing.assert_frame_equal(
            table.convert_dtypes(), expected.convert_dtypes(), check_dtype=False, obj=name
        )


def test_parts_have_the_same_bytes_in_any_blocks(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of rows without a score there are some in each, so that dictionaries of reasons differ.
    monkeypatch.setattr("aejax.scoring.parts.GROUP_ROWS", 300)
    score_files(detector, rows_file, tmp_path / "one", part_rows=1024)
    monkeypatch.setattr("aejax.scoring.job.BLOCK_BYTES", 1)
    monkeypatch.setattr("aejax.data.batch_tables.BATCH_ROWS", 77)
    score_files(detector, rows_file, tmp_path / "two", part_rows=1024)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_scores_are_counted_while_they_are_written(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is never read again by the job that wrote it."""
    out = tmp_path / "scores"
    read: list[Path] = []
    of_file = pq.ParquetFile.read_row_group

    class Watched(pq.ParquetFile):
        def __init__(self, source: Any, *args: Any, **how: Any) -> None:
            super().__init__(source, *args, **how)
            self.watched = source

        def read_row_group(self, *args: Any, **how: Any) -> pa.Table:
            read.append(self.watched)
            return of_file(self, *args, **how)

    monkeypatch.setattr(pq, "ParquetFile", Watched)
    score_files(detector, rows_file, out, part_rows=500, top=20)
    assert not [path for path in read if isinstance(path, Path) and path.parent == out]
    # What a kill leaves without its counts is read, once.
    (out / manifest.SUCCESS).unlink()
    (out / manifest.TOTALS).unlink()
    score_files(detector, rows_file, out, part_rows=500, top=20)
    again = {path.name for path in read if isinstance(path, Path) and path.parent == out}
    assert again == {f"part-{number:06d}.parquet" for number in range(6)}


@pytest.mark.parametrize("grouped", [False, True])
def test_counts_are_the_same_whether_keys_were_written_or_read_again(
    detector: Detector, table: pd.DataFrame, tmp_path: Path, grouped: bool
) -> None:
    """Parquet holds no seconds, and keeps categories in dictionaries of its own."""
    rows = table.assign(
        day=pd.to_datetime("2024-01-01") + pd.to_timedelta(np.arange(len(table)) // 700, "D"),
        kind=pd.Categorical.from_codes(np.arange(len(table)) % 3, ["a", "b", "c", "unused"]),
        second=np.arange(len(table)).astype("datetime64[s]"),
    )
    if grouped:
        x = rows[list(detector.schema.names or ())].fillna(0).replace(np.inf, 0)
        config = plain_config(model=aejax.Dense(hidden=(2,)), train=aejax.Train(epochs=1))
        scorer: Any = aejax.fit(config, x, groups=rows["kind"].astype(str), group_column="kind")
    else:
        scorer = detector
    files = {"parquet": tmp_path / "rows.parquet", "csv": tmp_path / "rows.csv"}
    rows.to_parquet(files["parquet"], index=False)
    rows.to_csv(files["csv"], index=False)
    keys = Selection(key_columns=("id", "day", "kind", "second"))
    how: dict[str, Any] = {"selection": keys, "part_rows": 500, "top": 30, "top_features": 2}
    for suffix, path in files.items():
        whole, out = tmp_path / f"whole-{suffix}", tmp_path / f"out-{suffix}"
        score_files(scorer, path, whole, **how)
        score_files(scorer, path, out, **how)
        (out / manifest.SUCCESS).unlink()
        (out / manifest.TOTALS).unlink()
        score_files(scorer, path, out, **how)
        found, expected = (
            {name: held for name, held in contents(one).items() if name != manifest.TOTALS}
            for one in (out, whole)
        )
        assert found == expected
        top = pq.read_table(out / manifest.TOP).to_pandas()
        best = scores_of(out).nlargest(30, "score", keep="first")
        assert top["row"].tolist() == best["row"].tolist()
        assert top["kind"].tolist() == best["kind"].tolist()
        assert pd.to_datetime(top["second"]).tolist() == pd.to_datetime(best["second"]).tolist()


def test_a_finished_job_is_not_done_again(
    detector: Detector, rows_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    first = score_files(detector, rows_file, out, part_rows=1000)
    before = contents(out)
    again = score_files(detector, rows_file, out, part_rows=1000)
    assert again["resumed_at_row"] == again["rows"] == first["rows"] == 3000
    assert contents(out) == before


def test_what_has_changed_is_named_and_restart_starts_over(
    detector: Detector, table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    score_files(detector, rows_file, out, part_rows=1000)
    before = contents(out)
    threshold = detector.threshold
    assert threshold is not None
    moved = detector.with_threshold(dataclasses.replace(threshold, value=9.0))
    other = aejax.fit(detector.config, table[list(detector.schema.names or ())][1000:1300])
    for changed, settings, said in (
        (moved, {}, f"threshold was {threshold.value!r} and is 9.0"),
        (other, {}, "model was"),
        (detector, {"part_rows": 500}, "part_rows was 1000 and is 500"),
        (detector, {"top": 5}, "top was 0 and is 5"),
        (detector, {"selection": KEYS}, r"key_columns was \[\] and is \['id'\]"),
    ):
        with pytest.raises(InputError, match=said):
            score_files(changed, rows_file, out, **{"part_rows": 1000, **settings})
    table.assign(sensor_0=0.0).to_parquet(rows_file, index=False)
    with pytest.raises(InputError, match=r"scores of rows\.parquet as it was: it has changed"):
        score_files(detector, rows_file, out, part_rows=1000)
    assert contents(out) == before
    score_files(detector, rows_file, out, part_rows=500, restart=True)
    np.testing.assert_array_equal(
        scores_of(out)["score"], expected_scores(detector, table.assign(sensor_0=0.0))
    )


def test_several_files_are_one_input(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    for index, first in enumerate(range(0, 3000, 1000)):
        path = folder / f"day={index}" / "machine=a" / "part.parquet"
        path.parent.mkdir(parents=True)
        table[first : first + 1000].to_parquet(path, index=False)
    (folder / "_SUCCESS").touch()
    selection = Selection(key_columns=("id", "day", "machine"))
    out = tmp_path / "scores"
    score_files(detector, folder, out, selection=selection, part_rows=300)
    found = scores_of(out)
    np.testing.assert_array_equal(found["score"], expected_scores(detector, table))
    assert found["id"].tolist() == table["id"].tolist()
    assert found["row"].tolist() == list(range(3000))
    assert found["file_row"].tolist() == [*range(1000)] * 3
    assert found["day"].tolist() == [0] * 1000 + [1] * 1000 + [2] * 1000
    assert found["machine"].unique().tolist() == ["a"]
    assert found["file"][1000] == "day=1/machine=a/part.parquet"
    # The pattern finds the same files under the same names.
    again = score_files(
        detector, f"{folder}/*/*/*.parquet", out, selection=selection, part_rows=300
    )
    assert again["resumed_at_row"] == 3000


def test_appending_scores_new_files_only(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    folder, out = tmp_path / "rows", tmp_path / "scores"
    folder.mkdir()

    def put(name: str, first: int, last: int) -> None:
        table[first:last].to_csv(folder / name, index=False)

    put("b.csv", 0, 500)
    score_files(detector, folder, out, selection=KEYS, part_rows=300)
    before = contents(out)
    put("a.csv", 500, 900)
    put("c.csv", 900, 1000)
    with pytest.raises(InputError, match=r"a\.csv and 1 more is new; allowed: --append"):
        score_files(detector, folder, out, selection=KEYS, part_rows=300)
    assert contents(out) == before
    asked: list[int] = []
    with pytest.raises(Interrupted):
        score_files(
            detector,
            folder,
            out,
            selection=KEYS,
            part_rows=300,
            append=True,
            should_stop=lambda: bool(asked.append(0)) or len(asked) == 2,
        )
    assert not (out / manifest.SUCCESS).exists()
    put("d.csv", 1000, 1100)
    (folder / "b.csv").unlink()
    added = score_files(detector, folder, out, selection=KEYS, part_rows=300, append=True)
    assert added["rows"] == 1100
    assert added["resumed_at_row"] >= 500
    found = scores_of(out)
    assert found["id"].tolist() == table["id"][:1100].tolist()
    assert found["row"].tolist() == list(range(1100))
    np.testing.assert_array_equal(found["score"], expected_scores(detector, table[:1100]))
    assert all(contents(out)[name] == before[name] for name in before if name.startswith("part"))
    put("a.csv", 0, 400)
    with pytest.raises(InputError, match=r"a\.csv as it was: it has changed"):
        score_files(detector, folder, out, selection=KEYS, part_rows=300, append=True)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "npy", "npz", "array_record"])
def test_every_format_gets_the_same_scores(
    detector: Detector, table: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    path, columns = tmp_path / f"rows.{suffix}", list(detector.schema.names or ())
    x = table[columns].to_numpy(np.float32)
    if suffix.startswith("csv"):
        table[columns[::-1]].assign(extra="x").to_csv(path, index=False)
    elif suffix == "array_record":
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(path), "group_size:64")
        for row in x:
            writer.write(row.tobytes())
        writer.close()
    else:
        np.save(path, x) if suffix == "npy" else np.savez_compressed(path, X=x)
    asked: list[int] = []
    with pytest.raises(Interrupted):
        score_files(
            detector,
            path,
            tmp_path / "out",
            part_rows=512,
            should_stop=lambda: bool(asked.append(0)) or len(asked) == 4,
        )
    result = score_files(detector, path, tmp_path / "out", part_rows=512)
    assert result["rows"] == 3000
    np.testing.assert_array_equal(
        scores_of(tmp_path / "out")["score"], expected_scores(detector, table)
    )


def test_a_published_data_set_is_an_input(tmp_path: Path) -> None:
    from aejax.data import datasets

    split = datasets.load("digits", "all")
    detector = aejax.fit(
        plain_config(train=aejax.Train(epochs=1)), split.x[:300], schema=split.schema
    )
    score_files(
        detector, "digits:all", tmp_path / "out", selection=Selection(key_columns=("label",))
    )
    found = scores_of(tmp_path / "out")
    whole = default_batch_size(detector.schema, detector.config)
    np.testing.assert_array_equal(found["score"], detector.score(split.x, batch_size=whole))
    assert found["label"].tolist() == split.y.tolist()
    with pytest.raises(InputError, match="split of mnist is 'tset'; did you mean 'test'"):
        score_files(detector, "mnist:tset", tmp_path / "no")


def test_p_values_come_with_a_conformal_threshold(
    detector: Detector, table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    from aejax.config import parse_rule

    calibrated = detector.calibrate(
        table[list(detector.schema.names or ())][1000:2000], rule=parse_rule("conformal:0.1")
    )
    score_files(calibrated, rows_file, tmp_path / "out")
    found = scores_of(tmp_path / "out")
    good = found["score"].notna()
    assert found["p_value"].isna().tolist() == (~good).tolist()
    assert calibrated.threshold is not None
    np.testing.assert_array_equal(
        found["p_value"][good], calibrated.threshold.p_values(found["score"][good].to_numpy())
    )


def test_lines_of_json_tell_schedulers_how_far_it_is(
    detector: Detector, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score_files(detector, rows_file, tmp_path / "out", part_rows=1000, progress="json")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["event"] == "scored"
    assert lines[-1]["rows"] == lines[-1]["total"] == 3000
    assert lines[-1]["bad_rows"] == 4
    assert lines[-1]["seconds_left"] == 0


def test_parts_follow_the_width_of_a_row() -> None:
    sizes = {n: default_part_rows(aejax.Schema(shape=(n,))) for n in (1, 140, 784, 100_000)}
    assert sizes == {1: 1 << 20, 140: 1 << 19, 784: 1 << 17, 100_000: 1 << 14}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"part_rows": 0}, "part_rows is 0; allowed: at least 1"),
        ({"top": -1}, "top is -1; allowed: 0 to 1000000"),
        ({"top_features": 7}, "top_features is 7; allowed: 0 to 6"),
        ({"selection": Selection(key_columns=("sensor_9",))}, "no column 'sensor_9'"),
    ],
)
def test_settings_out_of_range_are_refused(
    detector: Detector, rows_file: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        score_files(detector, rows_file, tmp_path / "out", **settings)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scoring_files_does_not_import_pandas(
    run_folder: Path, table: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    """What pyarrow converts by itself, it asks pandas about: a good part of a short job's time."""
    rows = table[list(aejax.load(run_folder).schema.names or ())].dropna()[:100]
    if suffix == "csv":
        rows.to_csv(tmp_path / "rows.csv", index=False)
    else:
        rows.to_parquet(tmp_path / "rows.parquet")
    code = f"""
import sys, traceback
class Finder:
    def find_spec(self, name, *_):
        if name == "pandas":
            traceback.print_stack()
sys.meta_path.insert(0, Finder())
from aejax.cli import main
rows = ["--input", "rows.{suffix}"]
assert main(["score", {str(run_folder)!r}, *rows, "--out", "scores", "--quiet"]) == 0
assert "pandas" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
