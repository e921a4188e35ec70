"""What a scoring job of any number of rows takes, worked out from one that was done.

    aejax score runs/pumps --input rows.parquet --out scores
    python -m benchmarks.scale scores [--rows 1e12] [--part-rows 1048576]
        [--rows-per-second 1e6] [--nodes 100] [--node-dollars 2] [--terabyte-dollars 23]

Bytes are those of the folder's files; how fast parts are recorded, their records read, and scores
counted, is measured here, on this machine. Rate, nodes and prices are assumptions: put in your
own. docs/scale.md says what the lines mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aejax.config import InputError
from aejax.data.files import Rows
from aejax.scoring import manifest
from aejax.scoring.job import Segment
from aejax.scoring.progress import Progress
from aejax.scoring.tally import Tally
from aejax.scoring.totals import Totals

HOUR = 3600.0
TERABYTE = 1e12
# Lines of a journal that is made to be read.
LINES = 20_000
# Parts that are recorded, to see how long one takes.
RECORDED = 50


def measure(scores: Path) -> dict[str, float]:
    """Bytes and speeds of a finished job's folder.

    Returns:
        bytes_per_row, journal_bytes_per_part, recording_seconds_per_part,
        journal_seconds_per_part and fold_rows_per_second.
    """
    described = manifest.read_description(scores)
    parts = described["parts"]
    rows = sum(part["rows"] for part in parts)
    if not rows:
        raise InputError(f"{scores} holds 0 rows of scores; allowed: at least 1")
    bytes_of_parts = sum((scores / part["name"]).stat().st_size for part in parts)
    journal = (scores / manifest.PARTS).stat().st_size
    started = time.perf_counter()
    tallies = [Tally.of_part(scores / part["name"]) for part in parts]
    folded = time.perf_counter() - started
    return {
        "bytes_per_row": bytes_of_parts / rows,
        "journal_bytes_per_part": journal / len(parts),
        **_recording(described, tallies[0], scores / parts[0]["name"]),
        "fold_rows_per_second": rows / folded,
    }


def _recording(described: dict[str, Any], tally: Tally, path: Path) -> dict[str, float]:
    """Seconds to record a part, and to read its line of the journal again."""
    like, rows = described["parts"][0], 0
    said = {
        name: value for name, value in like.items() if name not in ("name", "segment", "first_row")
    }
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        files = described["segments"][like["segment"]]["files"]
        segments = [{"files": files, "done": False, "run": 1}]
        held = manifest.Manifest(folder, described["identity"], segments, [], [])
        held.write()
        segment = Segment(
            number=0,
            rows=Rows(path=folder, parts=()),
            manifest=held,
            totals=Totals(0),
            progress=Progress("none", 0, None),
            should_stop=lambda: False,
        )
        started = time.perf_counter()
        for number in range(RECORDED):
            segment.record(folder / manifest.part_name(number), said, tally)
        recording = time.perf_counter() - started
        with (folder / manifest.PARTS).open("w") as file:
            for number in range(LINES):
                part = {**like, "name": manifest.part_name(number), "first_row": rows}
                rows += part["rows"]
                file.write(json.dumps({**part, "check": manifest.checksum(part)}) + "\n")
        started = time.perf_counter()
        manifest.read_description(folder)
        reading = time.perf_counter() - started
    return {
        "recording_seconds_per_part": recording / RECORDED,
        "journal_seconds_per_part": reading / LINES,
    }


def work_out(
    found: dict[str, float],
    *,
    rows: float,
    part_rows: float,
    rows_per_second: float,
    nodes: int,
    node_dollars: float,
    terabyte_dollars: float,
) -> dict[str, float]:
    """What so many rows take.

    Args:
        found: what `measure` gives.
        rows: of the job.
        part_rows: of its parts.
        rows_per_second: of one node, as `aejax score` prints it.
        nodes: how many score.
        node_dollars: a node's price an hour.
        terabyte_dollars: the price of a terabyte of storage a month.
    """
    parts = rows / part_rows
    scoring = rows / (rows_per_second * nodes)
    recording = parts * found["recording_seconds_per_part"]
    stored = rows * found["bytes_per_row"] / TERABYTE
    return {
        "parts": parts,
        "scores_terabytes": stored,
        "journal_megabytes": parts * found["journal_bytes_per_part"] / 1e6,
        "journal_reading_seconds": parts * found["journal_seconds_per_part"],
        "scoring_hours": scoring / HOUR,
        "recording_hours": recording / HOUR,
        # More nodes than this wait for the one process that records parts.
        "nodes_before_records_limit": part_rows
        / found["recording_seconds_per_part"]
        / rows_per_second,
        "writing_megabytes_per_second": rows_per_second * nodes * found["bytes_per_row"] / 1e6,
        "scoring_dollars": max(scoring, recording) / HOUR * nodes * node_dollars,
        "storage_dollars_a_month": stored * terabyte_dollars,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found and what follows, a line each."""
    parser = argparse.ArgumentParser("benchmarks.scale", description="What many rows take.")
    parser.add_argument("scores", type=Path)
    parser.add_argument("--rows", type=float, default=1e12)
    parser.add_argument("--part-rows", type=float, default=float(1 << 20))
    parser.add_argument("--rows-per-second", type=float, default=1e6)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--node-dollars", type=float, default=2.0)
    parser.add_argument("--terabyte-dollars", type=float, default=23.0)
    given = vars(parser.parse_args(arguments))
    found = measure(given.pop("scores"))
    for name, value in {**found, **given, **work_out(found, **given)}.items():
        print(f"{name}: {value:,.4g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
