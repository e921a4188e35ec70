"""Broken input, full disks and second processes: what each gets, and that the job goes on."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.config import InputError, durable
from aejax.data.rows import Selection
from aejax.detection.detector import Detector
from aejax.detection.placed import default_batch_size
from aejax.scoring import manifest, parts, tally, totals
from aejax.scoring.manifest import claim, lock
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config

KEYS = Selection(key_columns=("id",))


@pytest.fixture
def rows_file(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    table.to_parquet(path, index=False, row_group_size=700)
    return path


def finished(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (manifest.LOCK, manifest.TOTALS)
    }


def failing_after(count: int, real: Callable[..., Any]) -> Callable[..., Any]:
    left = count

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("owner", "name", "counts"),
    [
        (os, "fsync", (5, 7, 8)),
        (os, "replace", (1, 3, 4)),
        (pq.ParquetWriter, "write_table", (0, 1, 4)),
        (manifest, "append_line", (0, 1, 2)),
    ],
)
def test_a_full_disk_ends_in_one_line_and_the_same_call_continues(
    detector: Detector,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    counts: tuple[int, ...],
) -> None:
    score_files(detector, rows_file, tmp_path / "whole", part_rows=500)
    for count in counts:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing_after(count, getattr(owner, name)))
            with pytest.raises(InputError, match="No space left on device; the same") as raised:
                score_files(detector, rows_file, tmp_path / "full", part_rows=500)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "full" / manifest.SUCCESS).exists()
        assert not list((tmp_path / "full").glob(f".part*{durable.ASIDE}"))
    score_files(detector, rows_file, tmp_path / "full", part_rows=500)
    assert finished(tmp_path / "full") == finished(tmp_path / "whole")


def test_a_disk_that_is_really_full(detector: Detector, rows_file: Path, tmp_path: Path) -> None:
    """A write of its own accord: /dev/full takes nothing."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    out = tmp_path / "out"
    out.mkdir()
    (out / f".part-000000.parquet{durable.ASIDE}").symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left on device"):
        score_files(detector, rows_file, out, part_rows=500)
    assert score_files(detector, rows_file, out, part_rows=500)["rows"] == 3000


def test_a_corrupt_row_group_names_itself_and_its_rows(
    detector: Detector, table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    good = rows_file.read_bytes()
    group = pq.ParquetFile(rows_file).metadata.row_group(2).column(3)
    start = min(group.data_page_offset, group.dictionary_page_offset or group.data_page_offset)
    rows_file.write_bytes(good[:start] + bytes(64) + good[start + 64 :])
    with pytest.raises(
        InputError, match=r"rows\.parquet: row group 2 \(rows 1400 to 2099\) is not readable"
    ):
        score_files(detector, rows_file, tmp_path / "out", selection=KEYS, part_rows=500)
    # What was finished before it stays; a file that is mended is another input, and says so.
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 2
    rows_file.write_bytes(good)
    with pytest.raises(InputError, match="it has changed"):
        score_files(detector, rows_file, tmp_path / "out", selection=KEYS, part_rows=500)
    score_files(detector, rows_file, tmp_path / "out", selection=KEYS, part_rows=500, restart=True)
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == table["id"].tolist()


def test_a_reader_that_fails_once_loses_nothing(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aejax.data import batch_tables

    score_files(detector, rows_file, tmp_path / "whole", part_rows=500)
    with monkeypatch.context() as patched:
        patched.setattr(batch_tables, "to_block", failing_after(3, batch_tables.to_block))
        with pytest.raises(InputError, match="row group 3"):
            score_files(detector, rows_file, tmp_path / "out", part_rows=500)
    again = score_files(detector, rows_file, tmp_path / "out", part_rows=500)
    assert again["resumed_at_row"] == 2000
    assert finished(tmp_path / "out") == finished(tmp_path / "whole")


def test_cells_of_a_wrong_type_and_rows_of_a_wrong_length_keep_their_place(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    lines = table.to_csv(index=False).splitlines()
    for row, line in {
        3: lines[4].replace(lines[4].split(",")[2], "broken"),
        10: "row-10,1,2",
        11: lines[12] + ",9",
        700: lines[701].rsplit(",", 1)[0] + ",1_000",
        2998: "row-2998",
    }.items():
        lines[row + 1] = line
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    result = score_files(detector, path, tmp_path / "out", selection=KEYS, part_rows=500)
    found = pq.read_table(tmp_path / "out").to_pandas()
    assert found["reason"][[3, 10, 11, 700, 2998]].tolist() == [
        "sensor_1 is not a number",
        "the row does not have 7 cells",
        "the row does not have 7 cells",
        "sensor_5 is not a number",
        "the row does not have 7 cells",
    ]
    wrong = [3, 7, 10, 11, 130, 500, 700, 2998, 2999]
    assert np.flatnonzero(found["score"].isna()).tolist() == wrong
    assert result["bad_rows_by_reason"] == {
        "infinite": 1,
        "missing or NaN": 3,
        "not readable as numbers": 5,
    }
    good = np.setdiff1d(np.arange(3000), wrong)
    x = table[list(detector.schema.names or ())].iloc[good]
    whole = default_batch_size(detector.schema, detector.config)
    np.testing.assert_array_equal(found["score"][good], detector.score(x, batch_size=whole))
    assert found["id"][good].tolist() == table["id"][good].tolist()
    with pytest.raises(InputError, match=r"rows\.csv: row 3: sensor_1 is 'broken', not a number"):
        score_files(detector, path, tmp_path / "strict", on_bad_row="error")


def test_reasons_are_few_however_many_rows_are_wrong(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Neither values nor numbers of rows are in them; what stops a job quotes the row."""
    names = list(detector.schema.names or ())
    wrong = table.fillna(0).replace(np.inf, 0).astype(dict.fromkeys(names, object))
    for row in range(0, 3000, 3):
        wrong.loc[row, names[row % 2]] = f"broken {row}"
    wrong.loc[1, names[2]] = np.inf
    wrong.to_csv(tmp_path / "rows.csv", index=False)
    score_files(detector, tmp_path / "rows.csv", tmp_path / "out", part_rows=700)
    reasons = pq.read_table(tmp_path / "out").to_pandas()["reason"]
    assert reasons.dtype == "category"
    assert reasons.value_counts().to_dict() == {
        f"{names[0]} is not a number": 500,
        f"{names[1]} is not a number": 500,
        f"{names[2]} is infinite": 1,
    }
    with pytest.raises(InputError, match=rf"row 0: {names[0]} is 'broken 0', not a number"):
        score_files(detector, tmp_path / "rows.csv", tmp_path / "strict", on_bad_row="error")


def test_a_bad_row_names_its_file_and_its_row_in_it(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    good = table.fillna(0).replace(np.inf, 0)
    for index in range(3):
        part = good[index * 1000 : (index + 1) * 1000].copy()
        if index == 2:
            part.iloc[40, 3] = np.nan
        part.to_parquet(tmp_path / f"rows-{index}.parquet", index=False)
    with pytest.raises(
        InputError, match=r"rows-2\.parquet: row 40 \(2040 of all\): sensor_2 is missing or NaN"
    ):
        score_files(detector, f"{tmp_path}/rows-*.parquet", tmp_path / "out", on_bad_row="error")


def test_pixels_that_fit_no_byte_keep_their_place(tmp_path: Path) -> None:
    import aejax

    x = np.random.default_rng(0).integers(0, 255, (80, 4, 4, 1)).astype(np.uint8)
    detector = aejax.fit(plain_config(train=aejax.Train(epochs=1)), x)
    wild = x.astype(np.float32)
    wild[5, 0, 1, 0] = 300
    np.save(tmp_path / "rows.npy", wild)
    score_files(detector, tmp_path / "rows.npy", tmp_path / "out")
    found = pq.read_table(tmp_path / "out").to_pandas()
    assert found["reason"][5] == "pixel[0,1] is not a whole number from 0 to 255"
    assert found["score"].isna().sum() == 1


def test_a_second_process_is_refused(detector: Detector, rows_file: Path, tmp_path: Path) -> None:
    with lock(tmp_path / "out"), pytest.raises(InputError, match="written by another process"):
        score_files(detector, rows_file, tmp_path / "out")


def test_a_restart_that_is_killed_is_never_taken_for_done(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    score_files(detector, rows_file, out, part_rows=500)
    whole = finished(out)
    for count in range(8):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", failing_after(count, Path.unlink))
            with pytest.raises(InputError, match="No space left on device; the same"):
                claim(out, {"threshold": None}, [("x", "y")], restart=True, append=False)
        if count:
            assert not (out / manifest.SUCCESS).exists()
    score_files(detector, rows_file, out, part_rows=500, restart=True)
    assert finished(out) == whole


@pytest.mark.parametrize("loss", ["no totals", "old totals", "broken totals"])
def test_totals_that_lag_or_are_lost_are_made_again(
    detector: Detector, rows_file: Path, tmp_path: Path, loss: str
) -> None:
    kept: dict[int, bytes] = {}
    out = tmp_path / "out"
    score_files(detector, rows_file, tmp_path / "whole", part_rows=500, top=30)

    def stop() -> bool:
        if (out / manifest.TOTALS).exists():
            kept.setdefault(len(kept), (out / manifest.TOTALS).read_bytes())
        return len(kept) == 3

    with pytest.raises(RuntimeError):
        score_files(detector, rows_file, out, part_rows=500, top=30, should_stop=stop)
    if loss == "no totals":
        (out / manifest.TOTALS).unlink()
    else:
        (out / manifest.TOTALS).write_bytes(kept[0] if loss == "old totals" else kept[0][:99])
    score_files(detector, rows_file, out, part_rows=500, top=30)
    assert finished(out) == finished(tmp_path / "whole")
    assert (out / manifest.TOP).read_bytes() == (tmp_path / "whole" / manifest.TOP).read_bytes()


def test_the_top_of_a_stopped_job_has_the_bytes_of_one_in_one_go(
    table: pd.DataFrame, rows_file: Path, tmp_path: Path
) -> None:
    """Parts say how often each feature had which values; nothing of that goes with the top."""
    x = table[[name for name in table.columns if name.startswith("sensor")]].dropna()
    detector = aejax.fit(
        plain_config(model=aejax.Dense(hidden=(2,)), train=aejax.Train(epochs=1)), x[600:2900]
    )
    score_files(detector, rows_file, tmp_path / "whole", part_rows=300, top=7)
    assert "feature_stability" in (tmp_path / "whole" / manifest.SUMMARY).read_text()
    out = tmp_path / "out"

    def stop() -> bool:
        found = out / manifest.PARTS
        return found.exists() and len(found.read_text().splitlines()) >= 4

    with pytest.raises(Interrupted):
        score_files(detector, rows_file, out, part_rows=300, top=7, should_stop=stop)
    assert (out / manifest.TOTALS).exists()
    score_files(detector, rows_file, out, part_rows=300, top=7)
    assert (out / manifest.TOP).read_bytes() == (tmp_path / "whole" / manifest.TOP).read_bytes()


def test_what_saved_totals_were_read_from_is_let_go_of_at_once(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of Arrow's that does so after Python has ended aborts the process."""
    score_files(detector, rows_file, tmp_path / "out", part_rows=500, top=30)
    contents: list[bytes] = []
    reader = pa.BufferReader

    def reading(content: bytes) -> pa.BufferReader:
        contents.append(content)
        return reader(content)

    monkeypatch.setattr(tally.pa, "BufferReader", reading)
    held = 0
    for _ in range(100):
        assert totals.Totals._saved(tmp_path / "out", 30, None).all.best.num_rows == 30
        while contents:
            content = contents.pop()
            # The name's own, and the one that is handed over.
            held += sys.getrefcount(content) > 2
    assert held == 0


def test_a_lost_part_is_noticed(detector: Detector, rows_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score_files(detector, rows_file, out, part_rows=500)
    (out / "part-000003.parquet").unlink()
    with pytest.raises(InputError, match=r"part-000003\.parquet is missing; allowed: --restart"):
        score_files(detector, rows_file, out, part_rows=500)


def test_a_group_of_a_part_ends_where_the_part_says(
    detector: Detector, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "GROUP_ROWS", 300)
    score_files(detector, rows_file, tmp_path / "out", part_rows=1000)
    with pq.ParquetFile(tmp_path / "out" / "part-000000.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [300, 300, 300, 100]
