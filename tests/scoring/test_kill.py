"""A scoring job that is killed at any moment ends with the bytes of one that never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from aejax.detection.detector import Detector

KILLS = 22


def scores_in(folder: Path) -> dict[str, bytes]:
    """All that a finished job leaves, but for the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".totals")
    }


def test_kills_lose_and_double_nothing(
    run_folder: Path, detector: Detector, table: pd.DataFrame, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.parquet"
    table.to_parquet(rows, index=False, row_group_size=700)
    server = Path(__file__).with_name("kill_server.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", server, run_folder, rows, tmp_path, "0", str(KILLS)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["kills"]) == KILLS
    whole = scores_in(tmp_path / "whole")
    assert len([name for name in whole if name.startswith("part-")]) == 47
    for job in range(result["jobs"]):
        killed = scores_in(tmp_path / f"killed-{job}")
        assert killed.keys() == whole.keys()
        for name, content in whole.items():
            assert killed[name] == content, f"job {job}: {name}"
    found = pq.read_table(tmp_path / "killed-0").to_pandas()
    assert list(found["id"]) == list(table["id"])
    assert list(found["row"]) == list(range(3000))
