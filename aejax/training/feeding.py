"""How rows reach the device: all at once before the first step, or a batch at a time.

Validation rows, which are not learnt from, are kept there too, where they are few.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.core import mesh, optimizers, steps
from aejax.core.mesh import Placement
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.data.disk_rows import DiskRows, Stored
from aejax.data.series import WindowRows

# Validation rows on disk are read again every epoch, so many bytes at a time.
STREAMED_BYTES = 1 << 24
# Rows above this many bytes stay on the host and are streamed.
DEVICE_BYTES = 2 << 30
# Windows that overlap are many times their points: of more, a batch is all that is copied.
WINDOW_BYTES = 1 << 28
# Steps between two looks of the host at the run: for losses, a stop request, a checkpoint.
STEPS_ON_DEVICE = 2048
STEPS_IN_STREAM = 16


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
        own = jax.tree.map(lambda x: place.share(place.padded(x), 1), tiles)
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
            part_loss = steps.compiled_validation_loss(
                self.program, variables, x, mask, self.scaler, self.values, before
            )
            total += float(jax.device_get(part_loss)) * len(part)
        placed_mean: jax.Array = self.place.everywhere(np.float32(total / len(rows)))
        return placed_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What every step of a run takes.

    Attributes:
        program: what is trained.
        place: the devices that share it.
        scaler: fitted on training rows, on those devices.
        values: the run's numbers, likewise.
    """

    program: steps.Program
    place: mesh.Placement
    scaler: Scaler
    values: optimizers.Numbers


class Feed:
    """Takes the steps of a segment; the two ways differ in how rows reach the device only.

    Args:
        run: what every step takes.
        x: training rows as stored, [n, ...].
        labels: int32 [n], each row's class, or None; of rows on the device only.
        on_device: put all rows there now; else each batch when its turn comes.

    Attributes:
        steps: most steps in a segment.
    """

    def __init__(
        self, run: Run, x: batches.RowSource, labels: np.ndarray | None, on_device: bool
    ) -> None:
        self.run = run
        self.steps = STEPS_ON_DEVICE if on_device else STEPS_IN_STREAM
        self.rows: Any = x
        if on_device:
            self.rows = run.place.everywhere(x if labels is None else (x, labels))
        self.on_device = on_device

    def __call__(self, state: steps.TrainState, order: np.ndarray) -> tuple[steps.TrainState, Any]:
        """Train on one segment.

        Args:
            state: before it; donated.
            order: int32 [steps, B], which rows make each batch; ~position is padding.

        Returns:
            The state after it, and the loss of every step: float32 [steps], or a list of
            scalars. Neither is waited for.
        """
        run, place = self.run, self.run.place
        missing = -order.shape[1] % place.devices
        if missing:
            rows = np.maximum(order, ~order)[:, np.arange(missing) % order.shape[1]]
            order = np.concatenate([order, ~rows], axis=1)
        own = place.share(order, 1)
        if self.on_device:
            after, losses = steps.compiled_train_steps(
                run.program, state, self.rows, place.rows(own, axis=1), run.scaler, run.values
            )
            return after, losses
        streamed = []
        with contextlib.closing(batches.stream(self.rows, own)) as fed:
            for batch in fed:
                placed = place.rows(batch)
                state, loss = steps.compiled_train_step(
                    run.program, state, placed.x, placed.mask, run.scaler, run.values
                )
                streamed.append(loss)
        return state, streamed


def feed(run: Run, x: batches.RowSource, labels: np.ndarray | None, how: str) -> Feed:
    """The feed that a configuration asks for.

    Args:
        run: what every step takes.
        x: training rows as stored.
        labels: each row's class, or None.
        how: `Train.feed`; "auto" puts rows that fit on the device.

    Raises:
        InputError: if rows can't be fed so.
    """
    if isinstance(x, WindowRows) and how != "stream" and x.nbytes <= WINDOW_BYTES:
        x = x[:]
    fits = isinstance(x, np.ndarray) and x.nbytes <= DEVICE_BYTES
    if how == "device" and not isinstance(x, np.ndarray):
        raise InputError(
            "Train.feed is 'device' but rows are not an array; allowed: 'stream', 'auto'"
        )
    on_device = how == "device" or (how == "auto" and fits)
    if labels is not None and not on_device:
        raise InputError(
            "Train.feed is 'stream', or rows don't fit into device memory; "
            "allowed with labels: 'device', 'auto' with rows that fit"
        )
    return Feed(run, x, labels, on_device)
