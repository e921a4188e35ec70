"""What rows of scores add up to: of a part while it is written, of a run, of a whole job.

A part is counted one of its row groups after the other, and its tally is folded into the others
in the parts' order. So a job that was stopped, one that ran through and one on Ray end with the
same numbers. A part that was written before a kill and is in no saved tally is counted by the
same function, from its file.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aejax.config import InputError
from aejax.data.arrow_types import array_of, floats_of
from aejax.detection.detector import Detector
from aejax.detection.drift import MOST_ROWS, feature_stability, known_deciles, tell_apart
from aejax.scoring.file_totals import Files
from aejax.scoring.group_totals import Groups, GroupTotals
from aejax.scoring.score_bins import bin_of

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
# Of the t-digest (Dunning and Ertl, 2019, arXiv:1902.04023): over 10 million scores in 20 parts,
# the median lay within 0.14 % of its rank, the 0.99 quantile within 0.005 %.
COMPRESSION = 2000
# Of a part's file: where the values of its rows' features lie.
PLACES = "aejax.places"
_METADATA = b"aejax"


class Tally:
    """Counts of rows of scores, but for those that the parts' lines in the journal have.

    Args:
        groups: whose rows are counted apart, or None.
        top: how many of the most anomalous rows to keep.

    Attributes:
        digest: a t-digest of the scores.
        bins: how many scores each bin of the histogram has.
        places: how many values each bin of each feature has, int64 [10, features]; None where
            features aren't watched.
        groups: counts of groups; None where there is one detector for all.
        best: the most anomalous rows, the first one first; None where there is none.
    """

    def __init__(self, groups: Groups | None = None, top: int = 0) -> None:
        self.top = top
        self.groups = None if groups is None else GroupTotals(groups)
        self.digest = datasketches.tdigest_double(COMPRESSION)
        self.bins: Counter[int] = Counter()
        self.places: np.ndarray | None = None
        self.best: pa.Table | None = None

    @staticmethod
    def of_part(path: Path, groups: Groups | None = None, top: int = 0) -> Tally:
        """The tally of a part that is written already; raises InputError if it can't be read."""
        tally = Tally(groups, top)
        columns = ["score"] if groups is None else ["score", "is_anomaly", groups.column]
        try:
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    tally.add(file.read_row_group(number, columns=None if top else columns))
                places = (file.metadata.metadata or {}).get(PLACES.encode())
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read again: {error}") from None
        tally.places = None if places is None else np.array(json.loads(places))
        return tally

    def add(self, rows: pa.Table) -> None:
        """Count the next rows of a part: one of its row groups, as it is written or read again."""
        each = floats_of(rows["score"].combine_chunks(), np.float32)
        scores = each[~np.isnan(each)]
        if self.groups is not None:
            self.groups.add(rows)
        if not len(scores):
            return
        # Sorted, because the digest sorts what it is given, in small pieces and more slowly.
        self.digest.update(np.sort(scores).astype(np.float64))
        bins, counts = np.unique(bin_of(scores), return_counts=True)
        self.bins.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))
        if self.top and self._may_hold_better(scores.max()):
            kth = max(len(scores) - self.top, 0)
            least = np.partition(scores, kth)[kth]
            self._keep_best(_plain(rows.filter(array_of(each >= least))))

    def add_places(self, places: np.ndarray | None) -> None:
        """Count where the values of some rows' features lie, int64 [10, features]."""
        if places is not None:
            self.places = places + (0 if self.places is None else self.places)

    def fold(self, part: Tally) -> None:
        """Add the tally of the next part."""
        self.digest.merge(_again(part.digest))
        # Written and read, as after a kill, so that it makes no difference whether there was one.
        self.digest = _again(self.digest)
        self.bins.update(part.bins)
        self.add_places(part.places)
        if self.groups is not None and part.groups is not None:
            self.groups.fold(part.groups)
        if part.best is not None and self._may_hold_better(part.best["score"][0].as_py()):
            # As after a kill: Parquet has other names for what lists hold, too.
            self._keep_best(_read(_written(part.best)))

    def _may_hold_better(self, highest: float) -> bool:
        """Whether rows that follow, of at most this score, can be among the most anomalous."""
        if self.best is None or len(self.best) < self.top:
            return True
        least: float = self.best["score"][-1].as_py()
        return bool(highest > least)

    def _keep_best(self, rows: pa.Table) -> None:
        both = rows if self.best is None else pa.concat_tables([self.best, rows])
        order = pc.sort_indices(both, [("score", "descending"), ("row", "ascending")])
        self.best = both.take(order[: self.top]).combine_chunks()

    def to_bytes(self) -> bytes:
        """As `from_bytes` takes it: a Parquet file of the best rows, and all else in its schema."""
        described = {
            "digest": base64.b64encode(self.digest.serialize()).decode(),
            "bins": sorted(self.bins.items()),
            "places": None if self.places is None else self.places.tolist(),
            "groups": None if self.groups is None else self.groups.to_dict(),
        }
        rows = pa.Table.from_arrays([], []) if self.best is None else self.best
        return _written(rows.replace_schema_metadata({_METADATA: json.dumps(described)}))

    @staticmethod
    def from_bytes(content: bytes, groups: Groups | None = None, top: int = 0) -> Tally:
        """What `to_bytes` wrote."""
        table = _read(content)
        written = json.loads(table.schema.metadata[_METADATA])
        tally = Tally(groups, top)
        if groups is not None:
            tally.groups = GroupTotals.from_dict(written["groups"], groups)
        tally.digest = datasketches.tdigest_double.deserialize(base64.b64decode(written["digest"]))
        tally.bins = Counter(dict(written["bins"]))
        tally.places = None if written["places"] is None else np.array(written["places"])
        tally.best = table.replace_schema_metadata(None).combine_chunks() if len(table) else None
        return tally

    def summary(
        self, parts: Sequence[dict[str, Any]], files: Files, detector: Detector
    ) -> dict[str, Any]:
        """Everything about the scores that fits on a page; JSON-ready.

        Args:
            parts: their lines in the journal.
            files: that they are of.
            detector: what scored; drift is measured by what it knows of normal rows.
        """
        described = counts(parts, flags=gives_flags(detector))
        alarms: list[str] | None = None
        if calibration_rows(detector):
            described["population_stability"], alarms = files.stability()
            alarms += files.alarms(alarms)
        if lost := files.without_scores():
            alarms = [*lost, *(alarms or [])]
        usual = detector.usual_point_values
        if usual is not None and self.places is not None:
            features = feature_stability(
                usual, self.places, detector.schema.table, calibration_rows(detector) or MOST_ROWS
            )
            alarms = [*(alarms or []), *features.pop("feature_alarms", [])]
            described |= features
        if not self.digest.is_empty():
            # What lies between two ranks of the digest may be above the largest score.
            low, high = described["lowest"], described["highest"]
            described["quantiles"] = {
                f"{q:g}": float(min(max(self.digest.get_quantile(q), low), high)) for q in QUANTILES
            }
        if self.groups is not None:
            of_groups = self.groups.summary()
            alarms = [*(alarms or []), *of_groups.pop("alarms", [])]
            described |= of_groups
        return described if alarms is None else {**described, "alarms": alarms}


def _plain(rows: pa.Table) -> pa.Table:
    """Rows without what a part says of itself, and categories as the values that they stand for.

    A dictionary holds the values of all rows that it was made for, and they are not kept.
    """
    for at, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            rows = rows.set_column(at, field.name, rows[at].cast(field.type.value_type))
    return rows.replace_schema_metadata(None)


def _written(rows: pa.Table) -> bytes:
    content = pa.BufferOutputStream()
    pq.write_table(rows, content)
    written: bytes = content.getvalue().to_pybytes()
    return written


def _read(content: bytes) -> pa.Table:
    # Not `read_table`: a thread of its own lets go of the bytes, some time, and ends the process
    # where Python has ended by then.
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        return file.read(use_threads=False)


def _again(digest: Any) -> Any:
    """A t-digest as it is when it was written and read."""
    return datasketches.tdigest_double.deserialize(digest.serialize())


def gives_flags(detector: Detector) -> bool:
    """Whether rows are flagged."""
    return detector.threshold is not None


def calibration_rows(detector: Detector) -> int:
    """How many scores drift is measured by; 0 where it can't be, the least of many groups'."""
    threshold, deciles = detector.threshold, known_deciles(detector.threshold)
    if threshold is None or deciles is None:
        return 0
    rows = np.atleast_1d(np.asarray(threshold.rows))[np.atleast_1d(tell_apart(deciles))]
    return int(rows.min()) if len(rows) else 0


def watches_drift(detector: Detector) -> bool:
    """Whether a job of this detector can say that rows have drifted."""
    return bool(calibration_rows(detector)) or detector.usual_point_values is not None


def counts(parts: Sequence[dict[str, Any]], *, flags: bool) -> dict[str, Any]:
    """What the parts' lines add up to.

    Args:
        parts: lines of the journal.
        flags: whether rows were flagged.
    """
    low = [part["lowest"] for part in parts if part["lowest"] is not None]
    high = [part["highest"] for part in parts if part["highest"] is not None]
    bad: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for part in parts:
        bad.update(part["bad"])
        unseen.update(part.get("unseen", {}))
    rows = sum(part["rows"] for part in parts)
    flagged = sum(part["flagged"] for part in parts)
    scored = rows - bad.total()
    return {
        "rows": rows,
        "flagged": flagged if flags else None,
        "flagged_rate": flagged / scored if flags and scored else None,
        "bad_rows": bad.total(),
        "bad_rows_by_reason": dict(sorted(bad.items())),
        "lowest": min(low, default=None),
        "highest": max(high, default=None),
        "parts": len(parts),
        **({"unseen_values": dict(sorted(unseen.items()))} if unseen else {}),
    }
