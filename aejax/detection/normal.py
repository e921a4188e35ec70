"""What normal rows look like to a trained model: usual errors, and what its score learns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import InputError, score_text
from aejax.config.own import in_one_line
from aejax.config.scores import is_built_in, learns
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.core.score import KEPT_OF_NORMAL, learnt_of
from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored
from aejax.detection.detector import Detector
from aejax.detection.drift import UsualValues
from aejax.detection.explained import LATENT

# Rows that are reconstructed: enough for a mean error, and few enough to cost little beside
# training.
MOST_RECONSTRUCTED = 1 << 11
# The same for a score that learns: a covariance has many more numbers to be found.
MOST_ROWS_TO_LEARN_OF = 1 << 16
# A feature that normal rows reconstruct without error would outweigh all others for ever.
LEAST_SHARE = 1e-3
# Of all networks that are taken together.
ROWS_AT_ONCE = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What a score may ask of normal rows, each computed when it is asked for.

    Attributes:
        rows: scaled, float32 [n, ...].
        reconstructions: of these, float32 [n, ...].
        errors: of every feature, float [n, features].
        encode: gives what `latent` is.
        scaled_training: gives what `training` is.
        sharing: how many detectors learn, as groups, and share memory.
    """

    rows: np.ndarray
    reconstructions: np.ndarray
    errors: np.ndarray
    encode: Callable[[], np.ndarray]
    scaled_training: Callable[[int], np.ndarray]
    sharing: int = 1

    @functools.cached_property
    def residuals(self) -> np.ndarray:
        """Rows without their reconstructions, float32 [n, ...]."""
        return self.rows - self.reconstructions

    @functools.cached_property
    def latent(self) -> np.ndarray:
        """Latent values of the rows, float32 [n, ...]."""
        return self.encode()

    def training(self, most: int) -> np.ndarray:
        """At most so many of the rows trained on, evenly spread and scaled, float32 [n, ...]."""
        return self.scaled_training(most)


def learn_normal(
    detector: Detector, normal: Sequence[Stored], trained_on: Sequence[Stored], *, sharing: int = 1
) -> list[dict[str, Any]]:
    """What reasons and scores need to know of each network's normal rows.

    Args:
        detector: trained: a single network, or one of groups.
        normal: of each network normal rows that fit the schema, best not trained on.
        trained_on: of each normal rows that it was trained on.
        sharing: how many networks share the memory for what a score learns.

    Returns:
        What is kept among a network's variables under "normal": "error" float32 [features],
        each feature's mean error; and under names of its own what `Config.score` learns. {} of
        networks that give no reconstructions.

    Raises:
        InputError: if the score can't learn of them.
    """
    if not detector.scoring.reconstructs:
        return [{} for _ in normal]
    score = detector.scoring.score
    few = [most_rows(score, len(rows)) for rows in normal]
    sizes = [len(range(len(rows))[part]) for rows, part in zip(normal, few, strict=True)]
    learnt: list[dict[str, Any]] = []
    while len(learnt) < len(few):
        first = last = len(learnt)
        count = 0
        # Some thousand rows of many networks at a time.
        while last < len(few) and (last == first or count + sizes[last] <= ROWS_AT_ONCE):
            count += sizes[last]
            last += 1
        picked = [normal[at][few[at]] for at in range(first, last)]
        rows = picked[0] if len(picked) == 1 else np.concatenate(picked)
        members = None
        if detector.groups is not None:
            members = np.repeat(np.arange(first, last, dtype=np.int32), sizes[first:last])
        parts = np.split(np.arange(count), np.cumsum(sizes[first:last])[:-1])
        if detector.schema.columns is not None:
            errors = detector.errors_of(rows, members=members)
            for part in parts:
                # A column's mean is over the rows that have it.
                present = np.maximum((~np.isnan(rows[part])).sum(axis=0), 1)
                learnt.append({"error": usual_error(errors[part] * (len(part) / present))})
            continue
        x, y = detector.reconstruct_rows(rows, members=members)
        errors = detector.feature_errors(x, y)
        encode = functools.cache(
            functools.partial(detector.state_rows, rows, LATENT, members=members)
        )
        for at, part in enumerate(parts, start=first):
            known = Known(
                rows=x[part],
                reconstructions=y[part],
                errors=errors[part],
                encode=functools.partial(_part_of, encode, part),
                scaled_training=functools.partial(scaled, scaler_of(detector, at), trained_on[at]),
                sharing=sharing,
            )
            learnt.append({"error": usual_error(known.errors), **what_is_learnt(score, known)})
    return learnt


def scaler_of(detector: Detector, at: int) -> Scaler:
    """One network's scaler."""
    if detector.groups is None:
        return detector.scaler
    return jax.tree.map(lambda leaf: np.asarray(leaf)[at], detector.scaler)


def _part_of(whole: Callable[[], np.ndarray], part: np.ndarray) -> np.ndarray:
    return whole()[part]


def with_normal(detector: Detector, learnt: dict[str, Any], values: UsualValues | None) -> Detector:
    """A single detector with what is known of its normal rows.

    Args:
        detector: trained.
        learnt: what `learn_normal` gives of it.
        values: how each feature's are spread in its normal rows, where that is measured.
    """
    if not learnt:
        return detector
    known = {} if values is None else {"values": values._asdict()}
    variables = {**detector.variables, "normal": {**learnt, **known}}
    return dataclasses.replace(detector, variables=variables)


def usual_error(errors: np.ndarray) -> np.ndarray:
    """Each feature's mean error, float32 [features], of errors [rows, features]; never 0."""
    error = errors.mean(axis=0, dtype=np.float64)
    least = max(LEAST_SHARE * float(error.mean()), float(np.finfo(np.float32).tiny))
    return np.maximum(error, least).astype(np.float32)


def most_rows(score: Any, rows: int) -> slice:
    """Which of some normal rows are reconstructed, for usual errors and for a score to learn of."""
    if not learns(score):
        return evenly(rows, MOST_RECONSTRUCTED)
    return evenly(rows, getattr(score, "most_rows", MOST_ROWS_TO_LEARN_OF))


def scaled(scaler: Scaler, rows: Stored, most: int) -> np.ndarray:
    """At most so many rows, evenly spread and scaled, float32 [n, ...]."""
    few = rows[evenly(len(rows), most)]
    scaled_rows: np.ndarray = jax.device_get(
        steps.compiled_scale(*mesh.ONE_DEVICE.everywhere((scaler, few)))
    )
    return scaled_rows


def what_is_learnt(score: Any, known: Known) -> dict[str, Any]:
    """What a score's `learn` gives, checked: float32 arrays by name; {} of one without.

    Raises:
        InputError: naming the score, if it fails or gives anything else.
    """
    if not learns(score):
        return {}
    if is_built_in(score):
        learnt: dict[str, Any] = score.learn(known)
        return learnt
    said = f"Config.score is {score_text(score)}, whose learn"
    try:
        learnt = score.learn(known)
    except InputError as error:
        raise InputError(f"{said} failed: {error}") from error
    except Exception as error:  # Whatever a person's own code raises.
        reason = f"{type(error).__name__}: {in_one_line(error, str)}"
        raise InputError(f"{said} failed ({reason}); allowed: a dict of arrays") from error
    if not isinstance(learnt, Mapping):
        raise InputError(f"{said} gives {in_one_line(learnt)}; allowed: a dict of arrays")
    for name in KEPT_OF_NORMAL:
        if name in learnt:
            raise InputError(
                f"{said} gives {name!r}, which the detector keeps itself; allowed: other names"
            )
    return {name: _checked(tree, name, said) for name, tree in learnt.items()}


def _checked(tree: Any, name: Any, said: str) -> Any:
    if not isinstance(name, str) or not name or "/" in name:
        raise InputError(f"{said} gives the name {name!r}; allowed: text without '/'")
    if isinstance(tree, Mapping) and tree:
        return {key: _checked(leaf, key, said) for key, leaf in tree.items()}
    try:
        array = np.asarray(tree)
        fits = np.issubdtype(array.dtype, np.number) or array.dtype == bool
        array = array.astype(np.float32) if fits else array
    except (TypeError, ValueError):
        fits = False
    if not fits or np.iscomplexobj(tree) or not array.size or not np.isfinite(array).all():
        raise InputError(
            f"{said} gives {name!r}: {in_one_line(tree)}; allowed: an array of finite numbers"
        )
    return array


def stacked(score: Any, variables: Sequence[Mapping[str, Any]], *, ensemble: bool) -> Any:
    """Variables of several detectors, with a leading axis.

    Args:
        score: of all of them, which may share out what was learnt.
        variables: of each.
        ensemble: whether they vote on the same rows; otherwise each has a group's.

    Raises:
        InputError: if what they learnt can't stand side by side.
    """
    learnt = [learnt_of(own) for own in variables]
    if not learnt[0]:
        return _side_by_side(variables)
    rest = [
        {
            **own,
            "normal": {
                name: own["normal"][name] for name in KEPT_OF_NORMAL if name in own["normal"]
            },
        }
        for own in variables
    ]
    together = _side_by_side(rest)
    if hasattr(score, "stack"):
        kept = score.stack(learnt, ensemble)
    else:
        try:
            kept = _side_by_side(learnt)
        except (ValueError, TypeError):
            raise InputError(
                f"Config.score is {score_text(score)}, which learns arrays of different shapes; "
                "allowed in ensembles and groups: the same for each, or a score with stack"
            ) from None
    return {**together, "normal": {**together["normal"], **kept}}


def _side_by_side(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
