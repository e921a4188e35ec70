"""What is known of all scores together: counts, quantiles, histogram, the most anomalous rows.

Every part is folded in once, in order, from its file. The folded state is kept beside the
parts; after a kill it may lag behind them, and then the missing parts are folded in.
Both ways do the same operations on the same numbers, so both end in the same summary.
"""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasketches
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.config.durable import refused_as_input, written_aside
from aejax.detection.feature_drift import feature_stability
from aejax.detection.stability import drift, population_stability
from aejax.scoring.group_totals import Groups, GroupTotals
from aejax.scoring.manifest import CONTINUES, TOP, TOTALS, Manifest
from aejax.scoring.row_scorer import Described, usual_values_of
from aejax.scoring.score_bins import bin_of, histogram_of

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
# Of the t-digest (Dunning and Ertl, 2019, arXiv:1902.04023): over 10 million scores in 20 parts,
# the median lay within 0.14 % of its rank, the 0.99 quantile within 0.005 %.
COMPRESSION = 2000
CHECK_BYTES = 4
_METADATA = b"aejax"
# Of a part's file: where the values of its rows' features lie.
PLACES = "aejax.places"


class PartTotals(NamedTuple):
    """What is added for a part; whoever wrote it can find this out.

    Attributes:
        digest: a t-digest of its scores, serialised.
        bins: how many scores each bin of the histogram has.
        places: how many values each bin of each feature has, [10][features]; None where
            features aren't watched.
        groups: what `Groups.of_part` gives; None where there is one detector for all.
    """

    digest: bytes
    bins: dict[int, int]
    places: list[list[int]] | None = None
    groups: dict[str, Any] | None = None


def part_totals(path: Path, groups: Groups | None = None) -> PartTotals:
    """What a part adds to the totals."""
    digest = datasketches.tdigest_double(COMPRESSION)
    counted: Counter[int] = Counter()
    with _reading(path) as file:
        places = (file.metadata.metadata or {}).get(PLACES.encode())
        for group in range(file.num_row_groups):
            scores = _scores(file, group)
            if not len(scores):
                continue
            # Sorted, because the digest sorts what it is given, in small pieces and more slowly.
            digest.update(np.sort(scores).astype(np.float64))
            bins, counts = np.unique(bin_of(scores), return_counts=True)
            counted.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))
        of_groups = None if groups is None else groups.of_part(file)
    watched = None if places is None else json.loads(places)
    return PartTotals(digest.serialize(), dict(counted), watched, of_groups)


def _scores(file: pq.ParquetFile, group: int) -> np.ndarray:
    column = file.read_row_group(group, columns=["score"])["score"].combine_chunks()
    scores: np.ndarray = column.drop_null().to_numpy()
    return scores


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read again: {error}") from None


class Totals:
    """Folded parts.

    Args:
        top: how many of the most anomalous rows to keep.
        groups: whose rows are counted apart, or None.
    """

    def __init__(self, top: int, groups: Groups | None = None) -> None:
        self.top, self.parts = top, 0
        self.groups = None if groups is None else GroupTotals(groups)
        self.digest = datasketches.tdigest_double(COMPRESSION)
        self.bins: Counter[int] = Counter()
        self.places: np.ndarray | None = None
        self.rows: pa.Table | None = None

    @staticmethod
    def of(manifest: Manifest, top: int, groups: Groups | None = None) -> Totals:
        """The totals of all finished parts of a job: as saved, with what is missing folded in."""
        try:
            totals = Totals._saved(manifest.folder, top, groups)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            totals = Totals(top, groups)
        if totals.parts > len(manifest.parts):
            totals = Totals(top, groups)
        for part in manifest.parts[totals.parts :]:
            totals.fold(manifest.folder / part["name"])
        return totals

    def fold(self, path: Path, part: PartTotals | None = None) -> None:
        """Add the next part.

        Args:
            path: its file.
            part: what `part_totals` gives for it, where that is known already.
        """
        part = part or part_totals(path, None if self.groups is None else self.groups.groups)
        self.digest.merge(datasketches.tdigest_double.deserialize(part.digest))
        # Written and read, as after a kill, so that it makes no difference whether there was one.
        self.digest = datasketches.tdigest_double.deserialize(self.digest.serialize())
        self.bins.update(part.bins)
        if part.places is not None:
            self.places = np.array(part.places) + (0 if self.places is None else self.places)
        if self.groups is not None and part.groups is not None:
            self.groups.fold(part.groups)
        if self.top:
            with _reading(path) as file:
                for group in range(file.num_row_groups):
                    self._fold_rows(file, group)
        self.parts += 1

    def _fold_rows(self, file: pq.ParquetFile, group: int) -> None:
        scores = _scores(file, group)
        if not len(scores):
            return
        if self.rows is not None and len(self.rows) == self.top:
            least = self.rows["score"][-1].as_py()
            if not scores.max() > least:
                return
        kth = max(len(scores) - self.top, 0)
        table = file.read_row_group(group)
        kept = table.filter(pc.greater_equal(table["score"], np.partition(scores, kth)[kth]))
        # What a part says of itself is not said of these rows.
        kept = kept.replace_schema_metadata(None)
        both = kept if self.rows is None else pa.concat_tables([self.rows, kept])
        order = pc.sort_indices(both, [("score", "descending"), ("row", "ascending")])
        self.rows = both.take(order[: self.top]).combine_chunks()

    def save(self, folder: Path) -> None:
        """Keep the totals beside the parts; they can be made again, so no disk is waited for."""
        described = {
            "parts": self.parts,
            "top": self.top,
            "digest": base64.b64encode(self.digest.serialize()).decode(),
            "bins": sorted(self.bins.items()),
            "places": None if self.places is None else self.places.tolist(),
            **({} if self.groups is None else {"groups": self.groups.to_dict()}),
        }
        rows = pa.table({}) if self.rows is None else self.rows
        rows = rows.replace_schema_metadata({_METADATA: json.dumps(described)})
        content = pa.BufferOutputStream()
        pq.write_table(rows, content)
        written = content.getvalue().to_pybytes()
        # A damaged digest may still be one, of other scores.
        with written_aside(folder / TOTALS, durable=False) as file:
            file.write(written + zlib.crc32(written).to_bytes(CHECK_BYTES))

    @staticmethod
    def _saved(folder: Path, top: int, groups: Groups | None) -> Totals:
        content = (folder / TOTALS).read_bytes()
        content, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
        if zlib.crc32(content).to_bytes(CHECK_BYTES) != check:
            raise ValueError("damaged, or written before there were checksums")
        # Not `read_table`: a thread of its own lets go of the bytes, some time, and ends the
        # process where Python has ended by then.
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            table = file.read(use_threads=False)
        written = json.loads(table.schema.metadata[_METADATA])
        if written["top"] != top:
            raise ValueError("saved for another number of rows")
        totals = Totals(top, groups)
        if groups is not None:
            totals.groups = GroupTotals.from_dict(written["groups"], groups)
        totals.parts = written["parts"]
        totals.digest = datasketches.tdigest_double.deserialize(base64.b64decode(written["digest"]))
        totals.bins = Counter(dict(written["bins"]))
        totals.places = None if written["places"] is None else np.array(written["places"])
        totals.rows = table.replace_schema_metadata(None) if table.num_columns else None
        return totals

    def write_top(self, folder: Path) -> None:
        """Write the most anomalous rows, the worst first, where they were asked for.

        Where there are groups, also their table.
        """
        if self.groups is not None:
            with refused_as_input(folder, CONTINUES):
                self.groups.write(folder)
        if self.rows is None:
            return
        with refused_as_input(folder, CONTINUES):
            (folder / TOP).parent.mkdir(exist_ok=True)
            with written_aside(folder / TOP) as file:
                pq.write_table(self.rows, file, compression="zstd")

    def summary(self, manifest: Manifest, detector: Described) -> dict[str, Any]:
        """Everything about the scores that fits on a page; JSON-ready.

        Args:
            manifest: of the job.
            detector: what scored; drift is measured by what it knows of normal rows.
        """
        described = counts(manifest)
        threshold = detector.threshold
        if threshold and threshold.deciles and not self.digest.is_empty():
            below = [0.0, *map(self.digest.get_rank, threshold.deciles), 1.0]
            stability = population_stability(np.full(10, 0.1), np.diff(below))
            described["population_stability"] = stability
            described["alarms"] = drift(stability, described["rows"], threshold.rows)
        usual = usual_values_of(detector)
        if usual is not None and self.places is not None:
            found = feature_stability(usual, self.places, detector.schema)
            told = found.pop("feature_alarms", [])
            described |= found
            described["alarms"] = [*described.get("alarms", []), *told]
        if not self.digest.is_empty():
            # What lies between two ranks of the digest may be above the largest score.
            low, high = described["lowest"], described["highest"]
            described["quantiles"] = {
                f"{q:g}": float(min(max(self.digest.get_quantile(q), low), high)) for q in QUANTILES
            }
        if self.groups is not None:
            described |= self.groups.summary()
        described["histogram"] = histogram_of(self.bins)
        return described


def counts(manifest: Manifest) -> dict[str, Any]:
    """What the parts' lines add up to."""
    parts: Sequence[dict[str, Any]] = manifest.parts
    low = [part["lowest"] for part in parts if part["lowest"] is not None]
    high = [part["highest"] for part in parts if part["highest"] is not None]
    bad: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for part in parts:
        bad.update(part["bad"])
        unseen.update(part.get("unseen", {}))
    flagged = sum(part["flagged"] for part in parts)
    scored = manifest.rows - bad.total()
    identity = manifest.identity
    known = identity["threshold"] is not None or "group_thresholds" in identity
    return {
        "rows": manifest.rows,
        "flagged": flagged if known else None,
        "flagged_rate": flagged / scored if known and scored else None,
        "bad_rows": bad.total(),
        "bad_rows_by_reason": dict(sorted(bad.items())),
        "lowest": min(low, default=None),
        "highest": max(high, default=None),
        "parts": len(parts),
        **({"unseen_values": dict(sorted(unseen.items()))} if unseen else {}),
    }
