"""Jobs whose programs take columns: one program, bytes that no cut changes, bad rows found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.core import steps
from aejax.detection import rows as batches
from aejax.detection.detector import Detector
from aejax.scoring.stream import score_files
from aejax.training.loop import Interrupted
from tests.plain import plain_config
from tests.scoring.conftest import COLUMNS, make_table
from tests.scoring.test_stream import contents, expected_scores


def fitted(clip: float | None) -> Detector:
    config = plain_config(
        model=aejax.Dense(hidden=(8, 2), activation="tanh"),
        train=aejax.Train(epochs=2),
        scale=aejax.Scale(kind="standard", clip=clip),
    )
    return aejax.fit(config, make_table(400, 0)[COLUMNS])


@pytest.fixture(scope="module")
def unclipped() -> Detector:
    return fitted(None)


def test_one_program_of_columns_scores_a_whole_job(
    detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_parquet(tmp_path / "rows.parquet", row_group_size=700)
    before = steps.compiled_score.programs(), steps.compiled_score_columns.programs()
    score_files(detector, tmp_path / "rows.parquet", tmp_path / "out", batch_size=256)
    assert steps.compiled_score.programs() == before[0]
    assert steps.compiled_score_columns.programs() - before[1] <= 2
    np.save(tmp_path / "rows.npy", table[COLUMNS].to_numpy(np.float32))
    columns = steps.compiled_score_columns.programs()
    score_files(detector, tmp_path / "rows.npy", tmp_path / "of_rows", batch_size=256)
    assert steps.compiled_score_columns.programs() == columns


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_stopped_job_of_columns_has_the_bytes_of_one_that_was_not(
    unclipped: Detector,
    table: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, part in (("a", table[:1234]), ("b", table[1234:1235]), ("c", table[1235:])):
        write = part.to_parquet if kind == "parquet" else part.to_csv
        write(folder / f"{name}.{kind}", index=False)
    score_files(unclipped, folder, tmp_path / "whole", part_rows=500, batch_size=64)
    monkeypatch.setattr("aejax.scoring.job.BLOCK_BYTES", 1)
    monkeypatch.setattr("aejax.data.batch_tables.BATCH_ROWS", 77)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) % 11 == 0

    for _ in range(20):
        try:
            score_files(
                unclipped,
                folder,
                tmp_path / "cut",
                part_rows=500,
                batch_size=64,
                should_stop=stop,
            )
            break
        except Interrupted:
            continue
    assert len(asked) > 22
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_bad_rows_are_known_by_their_scores_where_nothing_is_clipped(
    unclipped: Detector, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unclipped.scores_tell
    wild = table.assign(sensor_0=table["sensor_0"].mask(table.index == 9, np.float32(3e38)))
    wild.to_parquet(tmp_path / "rows.parquet")
    # Not looked for.
    monkeypatch.setattr("aejax.scoring.tabulation.finite_rows", None)
    result = score_files(unclipped, tmp_path / "rows.parquet", tmp_path / "out")
    found = pq.read_table(tmp_path / "out").to_pandas()
    assert {row: found["reason"][row] for row in np.flatnonzero(found["score"].isna())} == {
        7: "sensor_1 is missing or NaN",
        9: "the score is beyond float32's range",
        130: "sensor_1 is missing or NaN",
        500: "sensor_4 is infinite",
        2999: "sensor_1 is missing or NaN",
    }
    assert result["bad_rows"] == 5
    good = found["score"].notna()
    np.testing.assert_allclose(
        found["score"][good], expected_scores(unclipped, table)[good], rtol=1e-5
    )


def test_an_infinity_that_is_clipped_is_looked_for(table: pd.DataFrame, tmp_path: Path) -> None:
    clipped = fitted(20.0)
    assert not clipped.scores_tell
    table.to_parquet(tmp_path / "rows.parquet")
    score_files(clipped, tmp_path / "rows.parquet", tmp_path / "out")
    found = pq.read_table(tmp_path / "out").to_pandas()
    assert found["reason"][500] == "sensor_4 is infinite"


def test_batches_of_columns_are_whole_and_padded() -> None:
    x = np.arange(26, dtype=np.float32).reshape(2, 13).T
    shapes = []

    def total(batch: np.ndarray) -> np.ndarray:
        shapes.append(batch.shape)
        return np.asarray(batch).sum(axis=0)

    (found,) = batches.map_batches(total, x, 4, "float32", by_column=True)
    np.testing.assert_array_equal(found, x.sum(axis=1))
    assert shapes == [(2, 4)] * 4
    (found,) = batches.map_batches(total, x, 16, "float32", by_column=True)
    np.testing.assert_array_equal(found, x.sum(axis=1))
    assert shapes[-1] == (2, 16)
