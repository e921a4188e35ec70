"""When a run's checkpoints are written, and how it goes on from the newest."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from aejax.core import mesh, steps
from aejax.training.history import History
from aejax.training.run_folder import difference

if TYPE_CHECKING:
    from aejax.training.checkpoint import Checkpoints


def checkpoints_in(
    folder: Path | None,
) -> contextlib.AbstractContextManager[Checkpoints | None]:
    """A run's checkpoints, to be closed at its end; None where it keeps nothing."""
    if folder is None:
        return contextlib.nullcontext()
    # Runs that keep nothing need no Orbax.
    from aejax.training.checkpoint import Checkpoints

    return Checkpoints(folder / "checkpoints")


class Saving:
    """Writes the checkpoints of a run, and reads the newest back.

    Args:
        checkpoints: of the run; None keeps nothing.
        history: whose notes go with each.
        folder: of the run, for messages.
        identity: what the run computes, JSON-ready.
        seconds: least time between two checkpoints.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        history: History,
        *,
        folder: Path | None,
        identity: dict[str, Any],
        seconds: float,
    ) -> None:
        self._checkpoints, self._history = checkpoints, history
        self._folder, self._identity, self._seconds = folder, identity, seconds
        self._saved_at = time.monotonic()

    def resume(
        self, place: mesh.Placement, state: steps.TrainState, best: steps.Best | None
    ) -> tuple[steps.TrainState, steps.Best | None]:
        """State and best variables to go on from; the history goes on with them.

        Args:
            place: the devices that they are put on.
            state: of a new run.
            best: likewise.

        Raises:
            InputError: if the checkpoints are those of another run.
        """
        latest = None
        if self._checkpoints is not None:
            latest = self._checkpoints.latest({"state": state, "best": best}, self._why_not)
        if latest is None:
            # Drops the lines of a run that left no checkpoint.
            self._history.resume(self._history.notes())
        else:
            saved, notes = latest
            state, best = place.everywhere((saved["state"], saved["best"]))
            self._history.resume(notes)
        self._saved_at = time.monotonic()
        return state, best

    def _why_not(self, notes: dict[str, Any]) -> str | None:
        """Where a checkpoint's run differs first from this one; None where it is this one's."""
        # Of a damaged checkpoint Orbax reads no notes, which isn't another run's.
        other = difference(notes["identity"], json.loads(json.dumps(self._identity)))
        return other and (
            f"{self._folder} holds checkpoints of another run ({other}); "
            "allowed: another folder, or the same run"
        )

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self._saved_at >= self._seconds

    def save(self, state: steps.TrainState, best: steps.Best | None) -> None:
        """Write a checkpoint, with the losses of every step before it."""
        if self._checkpoints is None:
            return
        self._history.flush()
        notes = {**self._history.notes(), "identity": self._identity}
        step = int(jax.device_get(state.step))
        self._checkpoints.save(step, {"state": state, "best": best}, notes)
        self._saved_at = time.monotonic()
