"""What a run tells of itself while it trains: losses, rates, a bar, files to read later."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.config.checks import extra
from aejax.config.durable import make_folder, refused_as_input, write_file
from aejax.training.bar import Bar


class Diverged(RuntimeError):
    """Training produced a loss that is not a finite number; the message names the step.

    Example:
        >>> def fit_or_none(config, x):
        ...     try:
        ...         return aejax.fit(config, x)
        ...     except aejax.Diverged:
        ...         return None
    """


class History:
    """Collects losses one segment late and writes a line an epoch.

    Args:
        rows: of all steps of the whole run.
        epochs: epochs of the whole run.
        in_steps: whether the run is counted in steps: each line says after which one it is.
        folder: for `history.jsonl`, or None.
        tensorboard: folder for event files, or None.
        progress: whether to draw a bar on stderr.
    """

    def __init__(
        self,
        *,
        rows: int,
        epochs: int,
        in_steps: bool,
        folder: Path | None,
        tensorboard: Path | None,
        progress: bool,
    ) -> None:
        self.rows_of_epochs: list[dict[str, Any]] = []
        self.stopped = False
        self._file = None if folder is None else folder / "history.jsonl"
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._pending: list[tuple[Any, ...]] = []
        self._total, self._seen, self._steps = 0.0, 0, 0
        self._clock = time.monotonic()
        self._bar = Bar(rows, unit="rows", shown=progress)
        self._bar.before = f"epoch 1/{epochs}"
        self._epochs, self._in_steps = epochs, in_steps

    def __enter__(self) -> History:
        if self._file is not None:
            make_folder(self._file.parent)
        if self._tensorboard is not None:
            with extra("tensorboard"):
                from tensorboardX import SummaryWriter
            self._writer = SummaryWriter(str(self._tensorboard), write_to_disk=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def notes(self) -> dict[str, Any]:
        """What a checkpoint must remember for the history to go on as if never interrupted."""
        return {
            "history": self.rows_of_epochs,
            "total": self._total,
            "seen": self._seen,
            "steps": self._steps,
            "stopped": self.stopped,
        }

    def resume(self, notes: dict[str, Any]) -> None:
        """Go on from a checkpoint's notes; lines written after that checkpoint are dropped."""
        self.rows_of_epochs = list(notes["history"])
        self._total, self._seen = float(notes["total"]), int(notes["seen"])
        self._steps, self.stopped = int(notes["steps"]), bool(notes["stopped"])
        done = sum(row["rows"] for row in self.rows_of_epochs) + self._seen
        self._bar.update(done)
        if self._file is not None:
            write_file(self._file, "".join(json.dumps(row) + "\n" for row in self.rows_of_epochs))

    def add(self, epoch: int, losses: object, counts: np.ndarray) -> None:
        """Losses of a segment's steps, still on the device, and the rows in each step."""
        self._pending.append(("losses", epoch, losses, counts))
        self._settle(leave=1)

    def end_epoch(
        self,
        epoch: int,
        learning_rate: float | None,
        loss: object,
        stopped: object,
        seen: Mapping[str, float] | None = None,
    ) -> None:
        """The validation loss after an epoch, and whether training should stop; None without.

        Args:
            epoch: which, from 0.
            learning_rate: at its end; None where an optimizer keeps it to itself.
            loss: the validation loss, still on the device.
            stopped: bool, still on the device.
            seen: further numbers of this epoch.
        """
        self._pending.append(("epoch", epoch, learning_rate, loss, stopped, seen or {}))
        self._settle(leave=2)

    def flush(self) -> None:
        """Wait for everything that was dispatched."""
        self._settle(leave=0)

    def _settle(self, leave: int) -> None:
        while len(self._pending) > leave:
            kind, *rest = self._pending.pop(0)
            if kind == "losses":
                self._take_losses(*rest)
            else:
                self._take_epoch(*rest)

    def _take_losses(self, epoch: int, losses: object, counts: np.ndarray) -> None:
        values = np.asarray(jax.device_get(losses), np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise Diverged(
                f"the loss became {values[wrong[0]]} at step {self._steps + int(wrong[0]) + 1} "
                f"(epoch {epoch + 1}); try a lower learning_rate or clip_norm=1.0"
            )
        self._total += float(values @ counts)
        self._seen += int(counts.sum())
        self._steps += len(values)
        self._bar.update(int(counts.sum()))

    def _take_epoch(
        self,
        epoch: int,
        learning_rate: float | None,
        loss: object,
        stopped: object,
        seen: Mapping[str, float],
    ) -> None:
        if self.stopped:
            return
        now = time.monotonic()
        row: dict[str, Any] = {"epoch": epoch + 1}
        if self._in_steps:
            row["step"] = self._steps
        row["loss"] = self._total / max(self._seen, 1)
        if loss is not None:
            row["validation_loss"] = float(jax.device_get(loss))
            if not np.isfinite(row["validation_loss"]):
                raise Diverged(
                    f"the validation loss became {row['validation_loss']} after step "
                    f"{self._steps} (epoch {epoch + 1}); try a lower learning_rate or clip_norm=1.0"
                )
        seconds = now - self._clock
        row |= {
            **seen,
            "learning_rate": learning_rate,
            "rows": self._seen,
            "seconds": round(seconds, 6),
            "rows_per_second": round(self._seen / seconds, 1) if seconds > 0 else None,
        }
        self.rows_of_epochs.append(row)
        self.stopped = stopped is not None and bool(jax.device_get(stopped))
        self._clock, self._total, self._seen = now, 0.0, 0
        if self._file is not None:
            with refused_as_input(self._file), self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            for name in ("loss", "validation_loss", "learning_rate", "rows_per_second"):
                if row.get(name) is not None:
                    self._writer.add_scalar(name, row[name], row.get("step", epoch + 1))
        self._bar.before = f"epoch {min(epoch + 2, self._epochs)}/{self._epochs}"
        shown = [f"{name}={row[name]:.5f}" for name in ("loss", "validation_loss") if name in row]
        self._bar.after = ", ".join(shown)
