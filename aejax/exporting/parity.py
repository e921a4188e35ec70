"""Whether an export scores as the detector does: on random rows and on those at the edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from aejax.config import InputError
from aejax.config.scores import is_mean_error
from aejax.core import mesh, scaling, steps
from aejax.core.scaling import Scaler
from aejax.data.columns import Column
from aejax.data.offsets import centred
from aejax.detection.detector import Detector

BATCH_SIZE = 64
RANDOM_ROWS = 150
TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Edges:
    """Rows that parity is checked on, and what the detector says of them.

    Rows spread as normal ones are, rows 100 times as far out, and rows full of each value
    at which arithmetic changes: zero, the smallest, the largest, and those that are no number;
    these in one place of a row, too.

    Attributes:
        stored: [n, ...] as files hold them, n no multiple of a batch.
        rows: as programs take them, less the schema's offset.
        scores: the detector's, float32 [n]; NaN where a row has none.
        rounding: see `rounding`, float64 [n].
        names: what each row is, for messages.
    """

    stored: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    rounding: np.ndarray
    names: list[str]

    def compare(
        self,
        what: str,
        score: Callable[[np.ndarray], np.ndarray],
        *,
        tolerance: float = TOLERANCE,
        slack: float = 1.0,
    ) -> float:
        """The largest relative difference of an export's scores: of all rows, of 1, and of 7.

        Args:
            what: scores, for messages.
            score: of rows as they are stored.
            tolerance: largest relative difference allowed.
            slack: how many times what rounding moves a score is allowed besides.

        Raises:
            InputError: at a larger one.
        """
        count, largest = len(self.rows), 0.0
        for part in (slice(count), slice(1), slice(count - 1, count), slice(count - 7, count)):
            difference = check(
                what,
                self.scores[part],
                score(self.stored[part]),
                self.names[part],
                tolerance=tolerance,
                slack=slack * self.rounding[part],
            )
            largest = max(largest, difference)
        return largest


def edges(detector: Detector) -> Edges:
    """The rows that a detector's exports are checked on."""
    schema = detector.schema
    rows, names = edge_rows(detector)
    stored = rows
    if schema.offset is not None:
        stored = rows + np.array(schema.offset).reshape(schema.shape)
        rows = centred(stored, schema)
    scores = detector.score_rows(rows, batch_size=BATCH_SIZE)
    flat = rows.reshape(len(rows), -1)
    # What has no number has no score, though a scaler that clips gives it one.
    good = ~np.isinf(flat) if schema.columns is not None else np.isfinite(flat)
    scores = np.where(good.all(axis=1) & np.isfinite(scores), scores, np.float32(np.nan))
    return Edges(stored, rows, scores, rounding(detector, rows, scores), names)


def edge_rows(detector: Detector) -> tuple[np.ndarray, list[str]]:
    """Rows [n, ...] as programs take them, but for the schema's offset; and n descriptions."""
    schema, random = detector.schema, np.random.default_rng(0)
    shape, dtype = schema.shape, np.dtype(schema.device_dtype)
    if schema.columns is not None:
        return _mixed_rows(detector, schema.columns)
    groups: list[tuple[str, np.ndarray]] = []
    numbers = detector.config.model.numbers
    if numbers is not None:
        words = random.integers(0, numbers, (RANDOM_ROWS, *shape))
        groups.append(("random whole numbers", words))
    if dtype.kind == "u":
        most = np.iinfo(dtype).max
        groups.append(("random", random.integers(0, most + 1, (RANDOM_ROWS, *shape))))
        groups += [(f"all {value}", np.full((1, *shape), value)) for value in (0, 1, most)]
    else:
        scaler = _one_scaler(detector)
        normal = random.normal(size=(RANDOM_ROWS, *shape))
        groups.append(("random", scaling.invert(scaler, normal)))
        groups.append(("random, far out", scaling.invert(scaler, 100 * normal[:20])))
        facts = np.finfo(dtype)
        values = (0, -0.0, 1, facts.tiny, facts.smallest_subnormal, facts.max, -facts.max)
        for value in (*values, np.nan, np.inf, -np.inf):
            groups.append((f"all {value:g}", np.full((1, *shape), value)))
        for value in (np.nan, np.inf, -np.inf):
            one = scaling.invert(scaler, normal[:1]).astype(dtype)
            one.reshape(-1)[0] = value
            groups.append((f"the first value {value:g}", one))
    names = [
        f"{name}, number {i}" if len(x) > 1 else name for name, x in groups for i in range(len(x))
    ]
    with np.errstate(over="ignore"):
        return np.concatenate([x.astype(dtype) for _, x in groups]), names


def _mixed_rows(detector: Detector, columns: tuple[Column, ...]) -> tuple[np.ndarray, list[str]]:
    """Rows of a mixed table: every category, and rows with each share of cells missing."""
    random = np.random.default_rng(0)
    normal = random.normal(size=(RANDOM_ROWS, len(columns)))
    x = scaling.invert(_one_scaler(detector), normal)
    for index, column in enumerate(columns):
        if column.kind == "category":
            x[:, index] = np.arange(RANDOM_ROWS) % (len(column.categories) + 1)
        elif column.kind == "boolean":
            x[:, index] = random.integers(0, 2, RANDOM_ROWS)
        elif column.kind == "cycle":
            x[:, index] = random.uniform(0, column.period, RANDOM_ROWS)
    hidden = random.random(x.shape) < np.linspace(0, 0.9, RANDOM_ROWS)[:, None]
    edges = [np.full((1, len(columns)), value) for value in (0, np.nan, np.inf, -np.inf)]
    rows = np.concatenate([np.where(hidden, np.nan, x), *edges]).astype(np.float32)
    named = [f"random, number {row}" for row in range(RANDOM_ROWS)]
    return rows, [*named, "all 0", "all missing", "all inf", "all -inf"]


def check(
    what: str,
    live: np.ndarray,
    exported: np.ndarray,
    names: list[str],
    *,
    tolerance: float = TOLERANCE,
    slack: float | np.ndarray = 0.0,
) -> float:
    """The largest relative difference between scores.

    Args:
        what: gave `found`, for messages.
        live: scores of the detector, float32 [n].
        exported: scores of the export, float32 [n].
        names: of the rows.
        tolerance: largest relative difference allowed.
        slack: absolute difference allowed besides, float64 [n]; see `rounding`.

    Raises:
        InputError: at a larger difference, or where one score is a number and the other isn't.
    """
    if live.shape != exported.shape:
        raise InputError(f"{what} gives scores {exported.shape}; allowed: {live.shape}")
    numbers = np.isfinite(live)
    exact, got = live.astype(np.float64), exported.astype(np.float64)
    with np.errstate(all="ignore"):
        difference = np.abs(got - exact)
        relative = difference / np.abs(exact)
    # Equal scores of 0 differ by nothing; what is no number is NaN in both, and flags no row.
    same = (got == exact) | (~numbers & np.isnan(got))
    relative = np.where(same, 0, relative)
    with np.errstate(all="ignore"):
        near = difference <= tolerance * np.abs(exact) + slack
    wrong = ~same & ~(near & numbers & np.isfinite(got))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{what} scores row {row} ({names[row]}) {exported[row]!s}, the detector "
            f"{live[row]!s}; allowed: a relative difference of {tolerance:g}. Nothing was exported"
        )
    return float(relative.max(initial=0.0))


def rounding(detector: Detector, rows: np.ndarray, live: np.ndarray) -> np.ndarray:
    """How far each score may move when the numbers behind it are rounded in another way.

    A row that is rebuilt almost perfectly has the small difference of two large numbers for a
    score, and its last digits are rounding: with values of size m, each off by d, the mean of
    squares s moves by 2 d m sqrt(s). A classifier's odds move as its inputs do, by d m. What a
    category of a mixed table costs is a difference of logs, and moves by d besides.

    Args:
        detector: whose scores they are.
        rows: [n, ...] as stored.
        live: their scores, float32 [n].

    Returns:
        float64 [n], at least 0, for values off by `TOLERANCE` of the row's largest.
    """
    placed = mesh.ONE_DEVICE.everywhere((_one_scaler(detector), rows))
    scaled = np.asarray(jax.device_get(steps.compiled_scale(*placed)), np.float64)
    if detector.schema.columns is not None:
        numbers = np.array([column.kind == "number" for column in detector.schema.columns])
        scaled = np.where(numbers & ~np.isnan(scaled), scaled, 1.0)
    with np.errstate(all="ignore"):
        moved = TOLERANCE * np.maximum(np.abs(scaled).reshape(len(rows), -1).max(axis=1), 1)
        if is_mean_error(detector.scoring.score) and detector.config.error == "squared":
            moved = 2 * moved * np.sqrt(live.astype(np.float64))
        if any(column.kind == "category" for column in detector.schema.columns or ()):
            moved = moved + TOLERANCE
    return np.nan_to_num(moved, nan=0.0, posinf=0.0)


def _one_scaler(detector: Detector) -> Scaler:
    """The detector's scaler; an ensemble's first member's."""
    if detector.combine is None:
        return detector.scaler
    first: Scaler = jax.tree.map(lambda leaf: leaf[0], detector.scaler)
    return first
