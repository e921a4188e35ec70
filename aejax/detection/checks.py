"""What is wrong with networks that were just trained, found for all of a detector's at once."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import Config
from aejax.config.scores import DEFAULT, is_mean_error, learns, score_object
from aejax.core import optimizers, steps
from aejax.data.batches import evenly, in_blocks
from aejax.data.disk_rows import Stored
from aejax.data.offsets import MOST_WHOLE
from aejax.data.schema import Schema
from aejax.detection.alarms import Alarm
from aejax.detection.detector import Detector
from aejax.detection.placed import batch_size_for
from aejax.models.build import build

# Both networks score the same rows, so few of them tell which is better.
MOST_ROWS = 1 << 9
MOST_SCALED_ROWS = 1 << 14
LEAST_SORTED_ROWS, MOST_SORTED = 1 << 9, 1 << 18
LEAST_ROWS_FOR_WILD = 100
# A trained network whose error is above this share of an untrained one's learnt nothing.
LEAST_GAIN = 0.95
HASHED_AT_ONCE = 1 << 12
# Steps of float32 in a feature's spread.
LEAST_STEPS = 64
# Of a value's distance from the median, in distances that 99 % of the rows keep within.
WILD = 100.0


# Values that are sorted or compared together.
VALUES_AT_ONCE = 1 << 22
# Standard deviations from the mean. A value `WILD` times as far from the median as 99 % of at
# least 100 rows is at least 6 of them away, so that few columns have to be sorted.
FAR = 5.0


def check_training(
    detector: Detector,
    normal: Sequence[Stored],
    scaled: Sequence[Stored],
    seeds: Sequence[int] | None = None,
    means: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[list[list[Alarm]], np.ndarray | None]:
    """What is wrong with each network of a detector, and what training left of its error.

    Args:
        detector: trained: a single network, or one of groups.
        normal: of each network normal rows, best not trained on.
        scaled: of each the rows that its scaler was fitted on.
        seeds: of each, that its initial values are drawn from; None takes the configuration's.
        means: what `mean_errors` gives, where it is known.

    Returns:
        Alarms of each network; and the mean error as a share of an untrained network's, float64
        [networks], None where training doesn't lower errors.
    """
    alarms: list[list[Alarm]] = [[] for _ in normal]
    left: np.ndarray | None = None
    if judged_by_error(detector.config):
        trained, untrained = mean_errors(detector, normal, seeds) if means is None else means
        left = trained / np.maximum(untrained, np.finfo(np.float64).tiny)
        for at in np.flatnonzero(left > LEAST_GAIN).tolist():
            text = (
                f"the trained network's mean error is {trained[at]:.4g}, "
                f"an untrained one's {untrained[at]:.4g}"
            )
            alarms[at].append(Alarm(kind="learnt nothing", size=float(left[at]), text=text))
    for own, steps_lost in zip(alarms, few_steps(detector, scaled), strict=True):
        own += steps_lost
    times, features = wild_values(detector.config, detector.schema, scaled)
    for at in np.flatnonzero(times > WILD).tolist():
        text = (
            f"{detector.schema.feature_name(int(features[at]))} has a value {times[at]:.0f} times "
            "as far from its median as 99 % of the training rows"
        )
        alarms[at].append(Alarm(kind="wild value", size=float(times[at]), text=text))
    return alarms, left


def judged_by_error(config: Config) -> bool:
    """Whether training lowers the errors that rows of a configuration are scored by, or with."""
    score = score_object(config)
    return config.model.reconstructs and (is_mean_error(score) or learns(score))


def mean_error(errors: np.ndarray, trim: float) -> float:
    """Mean of rows' errors [n] but for the share of the largest that training left out.

    A network that has kept from learning anomalies rebuilds them no better than before, and
    theirs are the errors that a mean of all would consist of.
    """
    kept = max(1, round(len(errors) * (1 - trim)))
    least = np.partition(errors, kept - 1)[:kept] if kept < len(errors) else errors
    return float(least.mean(dtype=np.float64))


def mean_errors(
    detector: Detector,
    normal: Sequence[Stored],
    seeds: Sequence[int] | None = None,
    *,
    batch_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean error of each network's rows after training and before, float64 [networks] each."""
    few = [rows[evenly(len(rows), MOST_ROWS)] for rows in normal]
    counts = np.array([len(rows) for rows in few])
    members = None
    if detector.groups is not None:
        members = np.repeat(np.arange(len(few), dtype=np.int32), counts)
    rows = np.concatenate(few)
    # In batches of the size that the threshold's rows get: no program more.
    size = batch_size or batch_size_for(sum(map(len, normal)), detector.schema, detector.config)
    # Whatever the score is made of, training lowers errors.
    by_error = dataclasses.replace(detector.config, score=DEFAULT)
    trained = dataclasses.replace(detector, config=by_error)
    means = []
    for one in (trained, _untrained(trained, seeds)):
        scores = one.score_rows(rows, members=members, batch_size=size)
        each = np.split(scores, np.cumsum(counts)[:-1])
        means.append(np.array([mean_error(own, detector.config.train.trim) for own in each]))
    return means[0], means[1]


def _untrained(detector: Detector, seeds: Sequence[int] | None) -> Detector:
    """The same detector before its training; its programs are those of the trained one."""
    config = detector.config
    program = steps.program_of(config, build(config.model, detector.schema))

    @functools.cache
    def initial(seed: int) -> Any:
        train = dataclasses.replace(config.train, seed=seed)
        values = optimizers.numbers(dataclasses.replace(config, train=train), 1)
        state = steps.compiled_new_state(program, detector.schema.shape, values)
        return jax.device_get(state.variables)

    if detector.groups is None:
        fresh = initial(config.train.seed)
    elif seeds is None:
        count = len(detector.groups)
        fresh = jax.tree.map(
            lambda leaf: np.broadcast_to(leaf, (count, *leaf.shape)), initial(config.train.seed)
        )
    else:
        fresh = jax.tree.map(lambda *leaves: np.stack(leaves), *map(initial, seeds))
    kept = {name: tree for name, tree in detector.variables.items() if name not in fresh}
    return dataclasses.replace(detector, variables={**fresh, **kept})


def wild_values(
    config: Config, schema: Schema, scaled: Sequence[Stored]
) -> tuple[np.ndarray, np.ndarray]:
    """How far out the wildest value of each network's rows lies, and in which feature.

    Args:
        config: that says how rows are scaled.
        schema: of the rows.
        scaled: of each network the rows that its scaler was fitted on.

    Returns:
        The distance from the median, in distances that 99 % of the rows keep within, float64
        [networks], exact where it is above `WILD`, 0 where it can't matter; positions of
        features, int64 [networks].
    """
    times, features = np.zeros(len(scaled)), np.zeros(len(scaled), np.int64)
    harmless = config.scale.kind in ("none", "unit", "robust", "quantile")
    if harmless or schema.kind != "table" or config.scale.clip is not None:
        return times, features
    counts = np.array([len(rows) for rows in scaled])
    # Those of about one size stand side by side, so that little is padding.
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] >= LEAST_ROWS_FOR_WILD]
    while len(order):
        most = min(int(counts[order[0]]), MOST_SCALED_ROWS)
        fitting = max(1, VALUES_AT_ONCE // (schema.features * most))
        some = order[:fitting]
        some = some[counts[some] <= 2 * counts[some[0]]]
        times[some], features[some] = _wildest([scaled[at] for at in some], schema)
        order = order[len(some) :]
    return times, features


def _wildest(scaled: Sequence[Stored], schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    few = [_numbers(rows[evenly(len(rows), MOST_SCALED_ROWS)], schema) for rows in scaled]
    seen, _ = _side_by_side(few)
    # A place beyond the last row holds the first one again, which changes no extreme, and adds
    # nothing to sums of differences from that row.
    apart = seen - seen[:, :1]
    counts = np.array([len(rows) for rows in few])[:, None]
    mean = apart.sum(axis=1) / counts
    deviation = np.sqrt(np.maximum((apart**2).sum(axis=1) / counts - mean**2, 0))
    far = np.maximum(apart.max(axis=1) - mean, mean - apart.min(axis=1)) > FAR * deviation
    networks, columns = np.nonzero(far)
    most = max(LEAST_SORTED_ROWS, MOST_SORTED // schema.features)
    fewer, there = _side_by_side([rows[evenly(len(rows), most)] for rows in few])
    counts = there.sum(axis=1)[networks]
    values = fewer[networks, :, columns]
    values[~there[networks]] = np.inf
    middle = _quantile(values, counts, 0.5)
    usual = _quantile(np.abs(values - middle[:, None]), counts, 0.99)
    high, low = (extreme(seen, axis=1)[far] for extreme in (np.max, np.min))
    farthest = np.maximum(high - middle, middle - low)
    times = np.zeros(far.shape)
    times[far] = np.divide(farthest, usual, out=np.zeros_like(usual), where=usual > 0)
    worst = times.argmax(axis=1)
    return times[np.arange(len(times)), worst], worst


def _numbers(rows: np.ndarray, schema: Schema) -> np.ndarray:
    """Rows as float64 [n, features], in which only numbers are far from anything."""
    few = rows.reshape(len(rows), -1).astype(np.float64)
    if schema.columns is not None:
        # A missing cell lies nowhere, and a code lies nowhere near another.
        numbers = np.array([column.kind == "number" for column in schema.columns])
        there = numbers & ~np.isnan(few)
        middles = [
            float(np.median(few[seen, i])) if seen.any() else 0.0 for i, seen in enumerate(there.T)
        ]
        few = np.where(there, few, np.asarray(middles))
    return few


def _side_by_side(rows_of: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows [networks, most, features], the first one where there are no more; which are real."""
    counts = np.array([len(rows) for rows in rows_of])
    there = np.arange(counts.max()) < counts[:, None]
    rows = np.stack([np.broadcast_to(own[0], (counts.max(), len(own[0]))) for own in rows_of])
    rows[there] = np.concatenate(rows_of)
    return rows, there


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


def few_steps(detector: Detector, scaled: Sequence[Stored]) -> list[list[Alarm]]:
    """An alarm for each network that has a feature of which float32 rounds most away.

    Such a feature lies far from 0 beside its spread.

    Rows that came as float64 have an offset then; these came as float32, or their first rows
    didn't show it.
    """
    schema, scaler = detector.schema, detector.scaler
    alarms: list[list[Alarm]] = [[] for _ in scaled]
    if schema.dtype == "uint8" or scaler.shift is None or scaler.factor is None:
        return alarms
    shift, factor = np.asarray(scaler.shift), np.asarray(scaler.factor)
    if detector.groups is None:
        shift, factor = shift[None], factor[None]
    if shift.ndim < 2:
        return alarms
    # Steps of float32 from one number to the next, in units of the spread.
    step = np.abs(shift * factor).reshape(len(scaled), -1) * np.finfo(np.float32).eps
    for at, worst in np.argwhere(step > 1 / LEAST_STEPS).tolist():
        if alarms[at]:
            continue
        rows = scaled[at]
        few = rows[evenly(len(rows), MOST_SCALED_ROWS)].reshape(-1, schema.features)[:, worst]
        few = few[np.isfinite(few)]
        whole = (few == np.floor(few)).all() and np.abs(few).max(initial=0) <= MOST_WHOLE
        if whole or len(different := np.unique(few)) < 2:
            continue
        text = (
            f"{schema.feature_name(worst)} lies around {shift[at].ravel()[worst]:.6g}, where "
            f"float32 holds {len(different)} different values of its range"
        )
        alarms[at] = [Alarm(kind="few steps", size=float(step[at, worst]), text=text)]
    return alarms


def rows_seen_in_training(training: Stored, test: np.ndarray) -> list[str]:
    """An alarm if rows that are to judge a detector are among those it was trained on."""
    if training.dtype != test.dtype:
        return []
    hashes = row_hashes(test)
    is_seen = np.zeros(len(hashes), bool)
    for block in in_blocks(training):
        is_seen |= np.isin(hashes, row_hashes(block))
    seen = int(is_seen.sum())
    if not seen:
        return []
    return [
        f"{seen} of the {len(test)} test rows are among the training rows: "
        "what is measured on them is too good"
    ]


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """A number for the bytes of every row, uint64 [n]; hardly ever the same for other bytes."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
    # By words, where rows have whole ones: a quarter of the numbers.
    flat = flat.view(np.uint8)
    flat = flat.view(np.uint32) if flat.shape[1] % 4 == 0 else flat
    weights = np.random.default_rng(0).integers(0, 1 << 64, flat.shape[1], np.uint64)
    hashes = np.zeros(len(rows), np.uint64)
    for first in range(0, len(rows), HASHED_AT_ONCE):
        part = slice(first, first + HASHED_AT_ONCE)
        # Odd factors mix a word into all higher bits; the one added tells 0 from absence.
        hashes[part] = ((flat[part].astype(np.uint64) + 1) * (weights | 1)).sum(axis=1)
    return hashes
