"""The loss of rows that are not learnt from, after every epoch."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aejax.core import optimizers, steps
from aejax.core.mesh import Placement
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.series import WindowRows

# Validation rows on disk are read again every epoch, so many bytes at a time.
STREAMED_BYTES = 1 << 24


class Validation:
    """Validation rows, ready for the device.

    Args:
        program: what is trained.
        place: the devices that share it.
        scaler: fitted on training rows.
        values: the run's numbers.
        rows: at least one; on disk, they are kept in memory only if they are few.
        labels: each row's class, for a classifier.
        batch_size: rows in a tile, at most.
    """

    def __init__(
        self,
        program: steps.Program,
        place: Placement,
        scaler: Scaler,
        values: optimizers.Numbers,
        rows: Stored,
        labels: np.ndarray | None,
        batch_size: int,
    ) -> None:
        self.program, self.place, self.scaler, self.values = program, place, scaler, values
        self.size = min(batch_size, len(rows))
        self.streamed: DiskRows | WindowRows | None = None
        if isinstance(rows, DiskRows | WindowRows) and rows.nbytes > STREAMED_BYTES:
            self.streamed = rows
            return
        tiles = batches.tiles(rows[:], self.size)
        x: Any = tiles.x
        if labels is not None:
            x = (tiles.x, batches.tiles(labels, self.size).x)
        self.placed = self._placed((x, tiles.mask))

    def _placed(self, tiles: object) -> Any:
        """Tiles [tiles, rows, ...], cut over the devices along their rows."""
        place = self.place
        own = jax.tree.map(lambda x: place.share(place.padded(x, 1), 1), tiles)
        return place.rows(own, axis=1)

    def loss(self, variables: dict[str, Any]) -> jax.Array:
        """Mean loss, a float32 scalar that the host doesn't wait for unless rows are streamed."""
        if self.streamed is None:
            mean: jax.Array = steps.compiled_validation_loss(
                self.program, variables, *self.placed, self.scaler, self.values
            )
            return mean
        rows, total = self.streamed, 0.0
        count = max(1, STREAMED_BYTES * len(rows) // rows.nbytes // self.size)
        for first in range(0, len(rows), count * self.size):
            part = rows[first : first + count * self.size]
            # Filled up, so that one program does for all parts.
            padded = batches.pad(part, count * self.size)
            shape = (count, self.size)
            x, mask = self._placed(
                (padded.x.reshape(*shape, *part.shape[1:]), padded.mask.reshape(shape))
            )
            before = self.place.everywhere(np.int32(first // self.size))
            found = steps.compiled_validation_loss(
                self.program, variables, x, mask, self.scaler, self.values, before
            )
            total += float(jax.device_get(found)) * len(part)
        placed_mean: jax.Array = self.place.everywhere(np.float32(total / len(rows)))
        return placed_mean
