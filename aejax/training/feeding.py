"""How rows reach the device: all at once before the first step, or a batch at a time."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.core import mesh, optimizers, steps
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.data.series import WindowRows

# Rows above this many bytes stay on the host and are streamed.
DEVICE_BYTES = 2 << 30
# Windows that overlap are many times their points: of more, a batch is all that is copied.
WINDOW_BYTES = 1 << 28
# Steps between two looks of the host at the run: for losses, a stop request, a checkpoint.
STEPS_ON_DEVICE = 2048
STEPS_IN_STREAM = 16


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
