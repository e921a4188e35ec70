"""A trained network on devices: compiled programs over any number of rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aejax.config import Combine, Config, InputError
from aejax.config.scores import score_object
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection.batch_sizes import default_batch_size, fitting_batch_size
from aejax.detection.memory import BatchLimit
from aejax.detection.rows import map_batches
from aejax.detection.tiles import map_tiles
from aejax.models.build import build


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlacedModel:
    """What a detector's methods run: its network, with copies of its arrays where they are needed.

    Attributes:
        config: all settings.
        schema: of the rows.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the network has any.
        combine: how an ensemble's members' scores become one; None where none are combined.
        devices: how many of this process's devices share the rows, each a batch of its own;
            None takes all, and one for fewer rows than a batch.
        parted: what makes of it several networks, of which each row has one: "groups"; or None.
    """

    config: Config
    schema: Schema
    scaler: Scaler
    variables: dict[str, Any]
    combine: Combine | None
    devices: int | None
    parted: str | None = None

    @functools.cached_property
    def scoring(self) -> steps.Scorer:
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
    def _copies(self) -> dict[Any, tuple[dict[str, Any], Scaler]]:
        return {}

    @functools.cached_property
    def _functions(self) -> dict[Any, Callable[..., Any]]:
        return {}

    def arrays_on(self, place: mesh.Placement | jax.Device) -> tuple[dict[str, Any], Scaler]:
        """Variables and scaler on devices; copied there once."""
        shared = isinstance(place, mesh.Placement)
        known = place.devices if shared else place
        if known not in self._copies:
            arrays = (self.variables, self.scaler)
            self._copies[known] = (
                place.everywhere(arrays) if shared else mesh.on_device(place, arrays)
            )
        return self._copies[known]

    def run(
        self,
        program: steps.Compiled,
        rows: np.ndarray,
        batch_size: int | None,
        members: np.ndarray | None = None,
        **how: Any,
    ) -> list[np.ndarray]:
        """What a compiled program gives for all rows.

        Args:
            program: of scorer, variables, scaler and a batch; gives an array [B, ...] or a
                tuple of them. `compiled_score_columns` gets batches [features, B].
            rows: [n, ...], as the schema says.
            batch_size: rows in a batch; None takes what suits the network and the number of rows.
            members: int32 [n], the position of each row's own network along the leading axis of
                the arrays, -1 for none; None where all rows have the same.
            how: what else the program takes, by keyword.

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
        dtype = self.schema.device_dtype
        by_column = program is steps.compiled_score_columns
        while True:
            size = self.batch_limit.of(batch_size)
            try:
                if members is not None:
                    functions = self._of_tiles(program, 1 if few else self.devices, how)
                    return map_tiles(functions, rows, members, batch_size=size, dtype=dtype)
                place = mesh.ONE_DEVICE if few else mesh.on_devices(self.devices)
                function = self._on(program, place)
                function = functools.partial(function, **how) if how else function
                return map_batches(function, rows, size, dtype, place, by_column=by_column)
            except jax.errors.JaxRuntimeError as error:
                self.batch_limit.halve(size, error)
            # Out here the error is gone, and with it what its frames kept on the device.

    def _on(self, program: steps.Compiled, place: mesh.Placement) -> Callable[..., Any]:
        key = program, place.devices
        if key not in self._functions:
            self._functions[key] = program.on(self.scoring, *self.arrays_on(place))
        return self._functions[key]

    def _of_tiles(
        self, program: steps.Compiled, devices: int | None, how: dict[str, Any]
    ) -> dict[jax.Device, Any]:
        wide = jax.default_backend() != "cpu" and self.scoring.maps
        return {
            device: functools.partial(
                program.of_tiles, self.scoring, *self.arrays_on(device), side_by_side=wide, **how
            )
            for device in mesh.local_devices(devices)
        }

    @property
    def kind(self) -> str:
        """What the detector is, in words."""
        if self.parted is not None:
            return "one of groups"
        return "a single model" if self.combine is None else "an ensemble"

    def require(self, method: str, *, allowed: str) -> None:
        """Refuse a method of another kind of detector.

        Args:
            method: its name.
            allowed: "an ensemble", "a single model", or "no ensemble".
        """
        wrong = self.combine is not None if allowed == "no ensemble" else self.kind != allowed
        if wrong:
            allowed = "a single model or groups" if allowed == "no ensemble" else allowed
            own = "; a group's own is member(NAME)" if self.parted is not None else ""
            raise InputError(f"{method}: the detector is {self.kind}; allowed: {allowed}{own}")

    def require_reconstructions(self, method: str) -> None:
        """Refuse a method that needs reconstructions where the network gives none."""
        if not self.scoring.reconstructs:
            raise InputError(
                f"{method}: a {type(self.config.model).__name__} model gives no reconstructions; "
                "allowed: autoencoders"
            )
