"""What normal rows look like to a trained model: usual errors, residuals, latent values, places."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.data.batches import evenly
from aejax.data.disk_rows import Stored
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.feature_drift import BINS, MOST_ROWS, UsualValues, usual_values
from aejax.detection.inside import LATENT
from aejax.detection.neighbours import MOST_NEIGHBOURS, needs_neighbours, neighbours_of
from aejax.models.backend import shapes_of
from aejax.models.build import build

# Rows that are reconstructed: enough for a mean error, and few enough to cost little beside
# training.
MOST_RECONSTRUCTED = 1 << 11
# The same for distances, whose covariance has many more numbers to be found.
MOST_ROWS_OF_DISTANCES = 1 << 16
MOST_VALUES = 4096
# A feature that normal rows reconstruct without error would outweigh all others for ever.
LEAST_SHARE = 1e-3


def learn_normal(detector: Detector, rows: Stored, trained_on: Stored) -> Detector:
    """The same detector with what its reasons and distances need to know of normal rows.

    Kept among its variables, under "normal": "error" float32 [features], each feature's mean
    error; of tables and series "values", how each feature's are spread (see `UsualValues`);
    and, if `Config.score` is a distance, of "residual" and "latent" as it needs them the "mean"
    float32 [n] and "whitening" float32 [n, n], the Cholesky factor of the inverse of the
    covariance, shrunk as in Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices" (2004); if it looks for neighbours, "neighbours"
    float32 [rows, values], scaled rows of those trained on, evenly spread.

    Args:
        detector: trained, a single model.
        rows: normal rows that fit its schema, best not trained on.
        trained_on: normal rows that it was trained on.

    Raises:
        InputError: if there are more values than distances can be found for, or fewer than two
            rows to look for neighbours among.
    """
    if not detector.scorer.reconstructs:
        return detector
    kinds = wanted(detector.config)
    few = rows[reconstructed(kinds, len(rows))]
    if detector.schema.columns is None:
        x, y = detector.reconstruct_rows(few)
        errors, residual = detector.feature_errors(x, y), (x - y).reshape(len(few), -1)
    else:
        # A column's mean is over the rows that have it.
        present = np.maximum((~np.isnan(few)).sum(axis=0), 1)
        errors, residual = detector.errors_of(few) * (len(few) / present), None
    latent = None
    if "latent" in kinds:
        latent = detector.state_rows(few, LATENT).reshape(len(few), -1)
    learnt = normal_of(kinds, errors, residual, latent)
    if needs_neighbours(detector.config):
        learnt["neighbours"] = neighbours_of(detector.scaler, trained_on)
    values = usual_values(rows[evenly(len(rows), MOST_ROWS)], detector.schema)
    if values is not None:
        learnt["values"] = values._asdict()
    return dataclasses.replace(detector, variables={**detector.variables, "normal": learnt})


def normal_of(
    kinds: tuple[str, ...],
    errors: np.ndarray,
    residual: np.ndarray | None,
    latent: np.ndarray | None,
) -> dict[str, Any]:
    """What `learn_normal` keeps, of normal rows that were reconstructed.

    Args:
        kinds: of which values distances are wanted.
        errors: float [rows, features].
        residual: float32 [rows, features], where it is wanted.
        latent: float32 [rows, latent], where it is wanted.

    Raises:
        InputError: as `whitening` does.
    """
    error = errors.mean(axis=0, dtype=np.float64)
    least = max(LEAST_SHARE * float(error.mean()), float(np.finfo(np.float32).tiny))
    learnt: dict[str, Any] = {"error": np.maximum(error, least).astype(np.float32)}
    if residual is not None and "residual" in kinds:
        learnt["residual"] = whitening(residual)
    if latent is not None:
        learnt["latent"] = whitening(latent)
    return learnt


def learns_normal(config: Config) -> bool:
    """Whether a configuration's score needs to know of normal rows."""
    return bool(wanted(config)) or needs_neighbours(config)


def wanted(config: Config) -> tuple[str, ...]:
    """Of which values a configuration's score needs distances."""
    return {
        "residual-distance": ("residual",),
        "latent-distance": ("latent",),
        "residual-and-latent-distance": ("residual", "latent"),
    }.get(config.score, ())


def reconstructed(kinds: tuple[str, ...], rows: int) -> slice:
    """Which of some rows are reconstructed; `kinds` as `wanted` gives them."""
    return evenly(rows, MOST_ROWS_OF_DISTANCES if kinds else MOST_RECONSTRUCTED)


def whitening(values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, and the matrix that makes normal rows uncorrelated with variance 1.

    Args:
        values: float32 [rows, n].

    Returns:
        "mean" float32 [n] and "whitening" float32 [n, n].

    Raises:
        InputError: if there are more values than a matrix can be found for.
    """
    from sklearn.covariance import ledoit_wolf

    count = values.shape[1]
    if count > MOST_VALUES:
        raise InputError(
            f"a distance of {count} values was asked for; allowed: at most {MOST_VALUES}"
        )
    values = values.astype(np.float64)
    mean = values.mean(axis=0)
    covariance, _ = ledoit_wolf(values - mean, assume_centered=True)
    # Values that never change have no spread to be measured in.
    covariance[np.diag_indices(count)] += max(1e-9 * np.trace(covariance) / count, 1e-12)
    factor = np.linalg.cholesky(np.linalg.inv(covariance))
    return {"mean": mean.astype(np.float32), "whitening": factor.astype(np.float32)}


def like(
    config: Config, schema: Schema, variables: Any, written: Mapping[str, Any]
) -> dict[str, Any]:
    """Shapes of what `learn_normal` keeps, to read it back.

    Args:
        config: of the detector.
        schema: of its rows.
        variables: its parameters, or their shapes.
        written: its description, as `describe_normal` has it.

    Raises:
        InputError: if these are not the names that go with the configuration, or there are too
            many rows.
    """
    names = written["normal"]
    model = build(config.model, schema)
    shapes: dict[str, Any] = {"error": jax.ShapeDtypeStruct((schema.features,), np.float32)}
    for name in wanted(config):
        count = schema.features
        if name == "latent":
            rows = jax.ShapeDtypeStruct((1, *schema.shape), np.float32)
            latent: Any = shapes_of(
                lambda known, x: model.call("encode", known, x), variables, rows
            )
            count = latent.size
        shapes[name] = {
            "mean": jax.ShapeDtypeStruct((count,), np.float32),
            "whitening": jax.ShapeDtypeStruct((count, count), np.float32),
        }
    if needs_neighbours(config):
        kept = written.get("neighbours")
        if not isinstance(kept, int) or not 1 <= kept <= MOST_NEIGHBOURS:
            raise InputError(f"neighbours is {kept!r}; allowed: 1 to {MOST_NEIGHBOURS}")
        shapes["neighbours"] = jax.ShapeDtypeStruct((kept, schema.features), np.float32)
    if "values" in names:
        # Detectors written before features were watched have none.
        shapes["values"] = {
            name: jax.ShapeDtypeStruct((bins, schema.features), np.float32)
            for name, bins in zip(UsualValues._fields, (BINS - 1, BINS), strict=True)
        }
    if sorted(shapes) != sorted(names):
        raise InputError(f"normal is {names!r}; allowed with these settings: {sorted(shapes)}")
    return shapes
