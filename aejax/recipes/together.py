"""An ensemble in place of a recipe's one detector."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from aejax.config import Combine, InputError, Vary
from aejax.training import processes


def ensemble_identity(
    ensemble: int | None, combine: Combine, vary: Vary | None, tensorboard: Path | None
) -> dict[str, Any]:
    """What of an ensemble decides a run: nothing where none is asked for.

    Args:
        ensemble: how many members, or None.
        combine: how their scores become one.
        vary: what they differ in besides their seeds.
        tensorboard: folder for TensorBoard event files, which are one detector's.

    Raises:
        InputError: if they don't go together.
    """
    if ensemble is not None and tensorboard is not None:
        raise InputError("event files were asked for; allowed: with one detector, no ensemble")
    if ensemble is not None and processes.are_joined():
        raise InputError(f"ensemble is {ensemble}; allowed with several processes: none")
    together: dict[str, Any] = {} if ensemble is None else {"ensemble": ensemble}
    if ensemble is None and (vary is not None or combine != "mean"):
        raise InputError("what members differ in was given; allowed: with an ensemble")
    # As runs were written before there was either.
    together |= {} if combine == "mean" else {"combine": combine}
    together |= {} if vary is None else {"vary": dataclasses.asdict(vary)}
    return together
