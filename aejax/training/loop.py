"""The host loop: feeds compiled steps, keeps history, checkpoints, stops early or on request.

It dispatches ahead of the device and reads losses one segment late, so the device never
waits for the host. What it computes depends on the configuration and the rows only: not
on how rows are fed, when checkpoints are written, or how often the run was interrupted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config import Config, InputError
from aejax.core import mesh, optimizers, steps
from aejax.core.scaling import Scaler
from aejax.data import batches
from aejax.data.batches import data_fingerprint
from aejax.data.disk_rows import DiskRows, Stored
from aejax.models.network import Network
from aejax.training import processes
from aejax.training.course import Orders, course, rows_of_steps
from aejax.training.feeding import Run, Validation, feed
from aejax.training.history import Diverged, History
from aejax.training.identity import digest, training_identity
from aejax.training.saving import Saving, checkpoints_in

__all__ = ["Diverged", "Interrupted", "Trained", "train"]


class Interrupted(RuntimeError):
    """Training was asked to stop; a checkpoint was written where there is a folder for one.

    Example:
        >>> def fit_or_leave(config, x, should_stop):
        ...     try:
        ...         return aejax.fit(config, x, folder="runs/night", should_stop=should_stop)
        ...     except aejax.Interrupted:  # The same call goes on from the checkpoint.
        ...         return None
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves.

    Attributes:
        variables: the parameters (and batch statistics) to use.
        history: one dict an epoch: epoch, loss, learning_rate, rows_per_second, seconds,
            validation_loss where there are validation rows, and step where steps are counted.
        best_epoch: the epoch whose variables were restored, or None for the last.
    """

    variables: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int | None


def train(
    config: Config,
    model: Network,
    scaler: Scaler,
    x: batches.RowSource,
    x_validation: Stored | None = None,
    *,
    shape: tuple[int, ...],
    folder: Path | None = None,
    tensorboard: Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 10.0,
    fingerprint: str | None = None,
    labels: np.ndarray | None = None,
    labels_validation: np.ndarray | None = None,
    initial: Mapping[str, Any] | None = None,
    watch: Callable[[dict[str, Any]], Mapping[str, float]] | None = None,
    devices: int | None = None,
) -> Trained:
    """Train a model, or continue the run that a folder holds.

    Of several processes each calls this with equal arguments; they compute one run together,
    and the first alone writes files.

    Args:
        config: all settings; the run's seed is `config.train.seed`.
        model: built for `config.model`.
        scaler: fitted on training rows.
        x: training rows as stored, [n, ...]; an array, or any `RowSource`, which is streamed.
        x_validation: rows for the validation loss, an array or on disk, or None.
        shape: of one row.
        folder: for checkpoints and `history.jsonl`, or None to keep nothing. Checkpoints of
            another network, loss, setting, scaler or row than these are refused.
        tensorboard: folder for TensorBoard event files, or None.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked between segments; True writes a checkpoint and raises Interrupted.
        checkpoint_seconds: least time between two checkpoints.
        fingerprint: of the training rows, as `batches.data_fingerprint` gives it, where it is
            known; None reads them once more to find it, where it is needed.
        labels: int32 [n], each training row's class, for a classifier; such rows have to
            fit into device memory.
        labels_validation: the same of the validation rows.
        initial: variables to start from instead of fresh ones.
        watch: called with the variables after every epoch; its numbers join the history.
        devices: how many of this process's devices share each batch; None takes all.

    Raises:
        Diverged: at the first step whose loss is not finite.
        Interrupted: when `should_stop` said so.
        InputError: if there are no rows, patience is set without validation rows, or the
            folder holds the checkpoints of another run, or processes hold different runs.
    """
    place = mesh.on_all_processes(devices)
    first = processes.is_first()
    settings = config.train
    length = course(settings, len(x))
    per_epoch = length.per_epoch
    program = steps.program_of(config, model)
    numbers = optimizers.numbers(config, length.steps)
    identity: dict[str, Any] = {}
    if folder is not None or place.processes > 1:
        identity = {
            **training_identity(program, settings, scaler, numbers, shape),
            "rows": fingerprint or data_fingerprint(x),
            "validation rows": None if x_validation is None else data_fingerprint(x_validation),
            "labels": digest((labels, labels_validation)),
            "initial variables": None if initial is None else digest(initial),
        }
    processes.check_same(f"{json.dumps(identity)} {config} {len(x)}")
    if not len(x):
        raise InputError("training rows: found 0; allowed: at least 1")
    if settings.patience is not None and (x_validation is None or not len(x_validation)):
        raise InputError(
            "Train.patience is set but there are no validation rows; "
            "allowed: patience with validation rows or a validation_fraction above 0"
        )
    if x_validation is not None and not len(x_validation):
        x_validation = None
    run = Run(
        program=program,
        place=place,
        scaler=place.everywhere(scaler),
        values=place.everywhere(numbers),
    )
    state = place.everywhere(steps.compiled_new_state(run.program, shape, numbers))
    if initial is not None:
        # Copied: training donates its state, and the caller keeps these.
        kept = {name: initial[name] for name in state.variables}
        state = state._replace(variables=place.everywhere(jax.tree.map(np.array, kept)))
    best = steps.compiled_new_best(state) if settings.patience is not None else None
    rates = None
    if isinstance(settings.optimizer, str):
        last = np.arange(1, length.epochs + 1, dtype=np.float32) * per_epoch
        last = np.minimum(last, length.steps) - 1
        rates = jax.device_get(
            steps.compiled_learning_rates(settings.schedule, run.values, place.everywhere(last))
        )
    validation = None
    if x_validation is not None:
        validation = Validation(
            run.program,
            place,
            run.scaler,
            run.values,
            x_validation,
            labels_validation,
            settings.batch_size,
        )
    advance = feed(run, x, labels, settings.feed)
    patience = None if settings.patience is None else place.everywhere(np.int32(settings.patience))
    # Of rows on disk, numbers that are as many as the rows are kept there too.
    new_numbers = x.numbers if isinstance(x, DiskRows) else np.empty
    orders = Orders(train=settings, rows=len(x), new=new_numbers)
    history = History(
        rows=int(rows_of_steps(settings, len(x), length.steps).sum()),
        epochs=length.epochs,
        in_steps=settings.unit == "steps",
        folder=folder if first else None,
        tensorboard=tensorboard if first else None,
        progress=progress and first,
    )
    agree = processes.Agreement(place)
    with history, checkpoints_in(folder) as checkpoints:
        saving = Saving(
            checkpoints, history, folder=folder, identity=identity, seconds=checkpoint_seconds
        )
        state, best = saving.resume(place, state, best)
        start = int(state.step)
        # An epoch whose steps are all taken but that hasn't ended yet is ended first.
        for epoch in range(len(history.rows_of_epochs), length.epochs):
            if history.stopped:
                break
            order = orders(epoch)
            position = max(start - epoch * per_epoch, 0)
            # An implicit copy between host and device would stall the loop without a trace.
            with jax.transfer_guard("disallow"):
                for segment in _segments(order, advance.steps, position):
                    state, losses = advance(state, segment)
                    history.add(epoch, losses, np.sum(segment >= 0, axis=1))
                    stop, due = agree(should_stop(), saving.is_due())
                    if stop or due:
                        saving.save(state, best)
                    if stop:
                        raise Interrupted(f"stopped in epoch {epoch + 1} of {length.epochs}")
                loss = None
                if validation is not None:
                    loss = validation.loss(state.variables)
                if best is not None:
                    number = place.everywhere(np.int32(epoch))
                    best = steps.compiled_keep_best(best, state, loss, number, patience)
                seen: Mapping[str, float] = {}
                if watch is not None:
                    with jax.transfer_guard("allow"):
                        seen = watch(mesh.one_copy(state.variables))
                stopped = None if best is None else best.stopped
                rate = None if rates is None else float(rates[epoch])
                history.end_epoch(epoch, rate, loss, stopped, seen)
            # Several processes agree between segments only.
            if place.processes == 1 and saving.is_due():
                saving.save(state, best)
        history.flush()
        saving.save(state, best)
    kept = state.variables if best is None else best.variables
    return Trained(
        variables=mesh.one_copy(kept),
        history=history.rows_of_epochs,
        best_epoch=None if best is None else int(best.epoch),
    )


def _segments(order: np.ndarray, most: int, position: int) -> Iterator[np.ndarray]:
    """Cut an epoch into equal parts of at most `most` steps, and give those after `position`.

    The cuts don't depend on the position: a resumed run goes on with the same programs.
    """
    parts = -(-len(order) // most)
    length = -(-len(order) // parts)
    for first in range(0, len(order), length):
        if first + length > position:
            yield order[max(first, position) : first + length]
