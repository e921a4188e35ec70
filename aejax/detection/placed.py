"""A trained model on devices: compiled programs over any number of rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from aejax.config import Combine, Config, InputError
from aejax.config.scores import score_object
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection.batch_sizes import default_batch_size, fitting_batch_size
from aejax.detection.memory import BatchLimit
from aejax.detection.rows import map_batches
from aejax.models.build import build


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlacedModel:
    """What a detector's methods run: its model, with copies of its arrays where they are needed.

    Attributes:
        config: all settings.
        schema: of the rows.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the model has any.
        combine: how an ensemble's members' scores become one; None for a single model.
        devices: how many of this process's devices share the rows, each a batch of its own;
            None takes all, and one for fewer rows than a batch.
    """

    config: Config
    schema: Schema
    scaler: Scaler
    variables: dict[str, Any]
    combine: Combine | None
    devices: int | None

    @functools.cached_property
    def scorer(self) -> steps.Scorer:
        """The static part of the scoring program."""
        model = build(self.config.model, self.schema, precision=self.config.products)
        return steps.Scorer(
            model=model,
            error=self.config.error,
            score=score_object(self.config),
            combine=self.combine,
        )

    @functools.cached_property
    def _most_rows(self) -> int:
        return default_batch_size(self.schema, self.config)

    @functools.cached_property
    def batch_limit(self) -> BatchLimit:
        """What is known of how large a batch the device holds."""
        return BatchLimit()

    @functools.cached_property
    def _copies(self) -> dict[int, tuple[dict[str, Any], Scaler]]:
        return {}

    def arrays_on(self, place: mesh.Placement) -> tuple[dict[str, Any], Scaler]:
        """Variables and scaler on devices; copied there once."""
        if place.devices not in self._copies:
            self._copies[place.devices] = place.everywhere((self.variables, self.scaler))
        return self._copies[place.devices]

    def run(
        self, program: Callable[..., Any], rows: np.ndarray, batch_size: int | None
    ) -> list[np.ndarray]:
        """What a compiled program gives for all rows.

        Args:
            program: of scorer, variables, scaler and a batch; gives an array [B, ...] or a
                tuple of them.
            rows: [n, ...], as the schema says.
            batch_size: rows in a batch; None takes what suits the model and the number of rows.

        Returns:
            One array [n, ...] for each of the program's.

        Raises:
            InputError: if `batch_size` is below 1, or not even one row fits into the device.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: at least 1")
        most = batch_size or self._most_rows
        few = self.devices is None and len(rows) <= most
        batch_size = batch_size or fitting_batch_size(len(rows), most)
        place = mesh.on_devices(1 if few else self.devices)
        variables, scaler = self.arrays_on(place)

        def one(batch: Any) -> tuple[Any, ...]:
            found = program(self.scorer, variables, scaler, batch)
            return found if isinstance(found, tuple) else (found,)

        return self.batch_limit.run(
            lambda size: map_batches(one, rows, size, self.schema.device_dtype, place), batch_size
        )

    def require_ensemble(self, method: str, *, wanted: bool) -> None:
        """Refuse a method that an ensemble (or, if it is `wanted`, a single model) hasn't."""
        if (self.combine is not None) != wanted:
            found, allowed = (
                ("a single model", "an ensemble") if wanted else ("an ensemble", "a single model")
            )
            raise InputError(f"{method}: the detector is {found}; allowed: {allowed}")

    def require_reconstructions(self, method: str) -> None:
        """Refuse a method that needs reconstructions where the model gives none."""
        if not self.scorer.reconstructs:
            raise InputError(
                f"{method}: a {type(self.config.model).__name__} model gives no reconstructions; "
                "allowed: autoencoders"
            )
