"""What is wrong with detectors of many groups that were just trained, found for all at once."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from aejax.config import Config
from aejax.config.scores import DEFAULT
from aejax.core import optimizers, steps
from aejax.data.batches import evenly
from aejax.data.schema import Schema
from aejax.detection import alarms
from aejax.detection.group_alarms import OF_TRAINING, Alarm, in_sentences, renewed, without_advice
from aejax.detection.groups import GroupDetector
from aejax.detection.stability import tell
from aejax.models.build import build

# Values that are looked at together.
VALUES_AT_ONCE = 1 << 22
# Standard deviations from the mean. A value `alarms.WILD` times as far from the median as 99 %
# of at least 100 rows is at least 6 of them away, so that few columns have to be sorted.
FAR = 5.0


def check_groups(
    detector: GroupDetector, x: np.ndarray, normal: list[np.ndarray], scaled: list[np.ndarray]
) -> GroupDetector:
    """The same detectors with the alarms that `fit` raises of one, and what each left to learn.

    Alarms are kept with their groups, and told in the log as one sentence a kind.

    Args:
        detector: trained and calibrated.
        x: rows of all groups.
        normal: positions of each group's normal rows, best not trained on.
        scaled: positions of the rows that each group's scaler was fitted on.
    """
    found: dict[int, list[Alarm]] = {}
    left: np.ndarray | None = None
    if alarms.judged_by_error(detector.config):
        few = [rows[evenly(len(rows), alarms.MOST_ROWS)] for rows in normal]
        trained, untrained = _mean_errors(detector, x, few)
        left = trained / np.maximum(untrained, np.finfo(np.float64).tiny)
        for at in np.flatnonzero(left > alarms.LEAST_GAIN).tolist():
            for text in alarms.no_better(trained[at], untrained[at]):
                found.setdefault(at, []).append(
                    Alarm(kind="learnt nothing", size=float(left[at]), text=without_advice(text))
                )
    times, features = wild_values(detector.config, detector.schema, x, scaled)
    for at in np.flatnonzero(times > alarms.WILD).tolist():
        name = detector.schema.feature_name(int(features[at]))
        text = (
            f"{name} has a value {times[at]:.0f} times as far from its median as 99 % of the "
            "training rows"
        )
        found.setdefault(at, []).append(Alarm(kind="wild value", size=float(times[at]), text=text))
    groups = [
        dataclasses.replace(
            group,
            alarms=renewed(group.alarms, OF_TRAINING, found.get(at, ())),
            error_left=None if left is None else float(left[at]),
        )
        for at, group in enumerate(detector.groups)
    ]
    tell(in_sentences({detector.names[at]: own for at, own in found.items()}, len(groups)))
    return detector.with_groups(groups)


def wild_values(
    config: Config, schema: Schema, x: np.ndarray, rows_of: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """How far out each group's wildest value lies, and in which feature.

    Where that is far enough for an alarm, it is what `aejax.detection.alarms.wild_values` finds
    of each group alone; where no value is far out, it may be less.

    Args:
        config: that says how rows are scaled.
        schema: of the rows.
        x: rows of all groups, [n, features].
        rows_of: positions of each group's rows.

    Returns:
        The distance from the median, in distances that 99 % of the group's rows keep within,
        float64 [groups], 0 where it can't matter; positions of features, int64 [groups].
    """
    times, features = np.zeros(len(rows_of)), np.zeros(len(rows_of), np.int64)
    harmless = config.scale.kind in ("none", "unit", "robust", "quantile")
    if harmless or schema.kind != "table" or config.scale.clip is not None:
        return times, features
    counts = np.array([len(rows) for rows in rows_of])
    # Groups of about one size stand side by side, so that little is padding.
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] >= alarms.LEAST_ROWS_FOR_WILD]
    while len(order):
        fitting = max(1, VALUES_AT_ONCE // (schema.features * int(counts[order[0]])))
        some = order[:fitting]
        some = some[counts[some] <= 2 * counts[some[0]]]
        times[some], features[some] = _wildest(x, [rows_of[at] for at in some], schema.features)
        order = order[len(some) :]
    return times, features


def _wildest(
    x: np.ndarray, rows_of: list[np.ndarray], features: int
) -> tuple[np.ndarray, np.ndarray]:
    few = [rows[evenly(len(rows), alarms.MOST_SCALED_ROWS)] for rows in rows_of]
    # A place beyond a group's last row is its first one again, which changes no extreme, and
    # adds nothing to sums of differences from that row.
    seen = x[_side_by_side(few)[0]].astype(np.float64)
    apart = seen - seen[:, :1]
    counts = np.array([len(rows) for rows in few])[:, None]
    mean = apart.sum(axis=1) / counts
    deviation = np.sqrt(np.maximum((apart**2).sum(axis=1) / counts - mean**2, 0))
    far = np.maximum(apart.max(axis=1) - mean, mean - apart.min(axis=1)) > FAR * deviation
    groups, columns = np.nonzero(far)
    most = max(alarms.LEAST_SORTED_ROWS, alarms.MOST_SORTED // features)
    fewer = [rows[evenly(len(rows), most)] for rows in few]
    places, there = _side_by_side(fewer)
    counts = np.array([len(rows) for rows in fewer])[groups]
    values = x[places[groups], columns[:, None]].astype(np.float64)
    values[~there[groups]] = np.inf
    middle = _quantile(values, counts, 0.5)
    usual = _quantile(np.abs(values - middle[:, None]), counts, 0.99)
    high, low = (extreme(seen, axis=1)[far] for extreme in (np.max, np.min))
    farthest = np.maximum(high - middle, middle - low)
    times = np.zeros(far.shape)
    times[far] = np.divide(farthest, usual, out=np.zeros_like(usual), where=usual > 0)
    worst = times.argmax(axis=1)
    return times[np.arange(len(times)), worst], worst


def _side_by_side(rows_of: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 [groups, most], a group's first one where it has no more; which are real."""
    counts = np.array([len(rows) for rows in rows_of])
    there = np.arange(counts.max()) < counts[:, None]
    places = np.repeat([rows[0] for rows in rows_of], counts.max()).reshape(there.shape)
    places[there] = np.concatenate(rows_of)
    return places, there


def _quantile(values: np.ndarray, counts: np.ndarray, q: float) -> np.ndarray:
    """A quantile of each line, float64 [lines], as NumPy interpolates it.

    Args:
        values: [lines, rows]; infinite where a line has no value.
        counts: of each line's values, [lines].
        q: which.
    """
    ordered = np.sort(values, axis=1)
    place = q * (counts - 1)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, counts - 1)
    lines = np.arange(len(counts))
    low, high = ordered[lines, below], ordered[lines, above]
    share: np.ndarray = low + (high - low) * (place - below)
    return share


def _mean_errors(
    detector: GroupDetector, x: np.ndarray, rows_of: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Every group's mean error before and after training: after, before, float64 [groups]."""
    counts = np.array([len(rows) for rows in rows_of])
    members = np.repeat(np.arange(len(rows_of), dtype=np.int32), counts)
    rows = x[np.concatenate(rows_of)]
    trim = detector.config.train.trim
    means = []
    by_error = dataclasses.replace(detector.config, score=DEFAULT)
    trained = dataclasses.replace(detector, config=by_error)
    for one in (trained, _untrained(trained)):
        scores = one.score_members(rows, members).astype(np.float64)
        if trim:
            each = np.split(scores, np.cumsum(counts)[:-1])
            means.append(np.array([alarms.mean_error(one, trim) for one in each]))
        else:
            means.append(np.add.reduceat(scores, np.cumsum(counts) - counts) / counts)
    return means[0], means[1]


def _untrained(detector: GroupDetector) -> GroupDetector:
    """The same detectors before their training: all began with the same variables."""
    config, groups = detector.config, len(detector.groups)
    program = steps.program_of(config, build(config.model, detector.schema))
    values = jax.device_put(optimizers.numbers(config, 1))
    fresh = steps.compiled_new_state(program, detector.schema.shape, values).variables
    repeated = jax.tree.map(
        lambda leaf: np.broadcast_to(np.asarray(leaf), (groups, *leaf.shape)), fresh
    )
    kept = {**repeated, "normal": detector.variables["normal"]}
    return dataclasses.replace(detector, variables=kept)
