"""A scorer of few rows: everything is compiled, placed and checked before the first call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aejax.config import InputError
from aejax.core import mesh, steps
from aejax.data.offsets import centred
from aejax.detection.placed import PlacedModel
from aejax.models.backend import transfers_allowed


def prepared_scorer(model: PlacedModel, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows [batch, ...] that gives their scores; see `Detector.scorer`."""
    if model.parted is not None:
        raise InputError(
            "scorer: the detector is one of groups; allowed: a single model or an ensemble; a "
            "group's own is member(NAME).scorer()"
        )
    if batch < 1:
        raise InputError(f"batch is {batch}; allowed: at least 1")
    schema = model.schema
    shape, dtype = (batch, *schema.shape), np.dtype(schema.device_dtype)
    taken = dtype if schema.offset is None else np.dtype("float64")
    program = steps.compiled_score.on(model.scoring, *model.arrays_on(mesh.ONE_DEVICE))
    with transfers_allowed():
        # Compiles it.
        program(np.zeros(shape, dtype))

    def score(rows: np.ndarray) -> np.ndarray:
        if rows.shape != shape or rows.dtype != taken:
            raise InputError(
                f"rows are {rows.dtype}{list(rows.shape)}; allowed: {taken}{list(shape)}"
            )
        if taken is not dtype:
            rows = centred(rows, schema)
        with transfers_allowed():
            return np.array(program(rows))

    return score
