"""What `test_processes.py` trains, in its own process and, as a program, in several.

python processes_program.py FOLDER
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aejax
from aejax.core import scaling
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training import feeding, loop, processes
from tests.plain import plain_config

ROWS, BATCH, EPOCHS = 330, 33, 3
# BatchNorm's statistics, noise, dropout and early stopping are over whole batches, or differ.
# Momentum, as a bias before BatchNorm has no gradient but rounding, which Adam would enlarge.
CONFIG = plain_config(
    model=aejax.Dense(hidden=(16, 4), batch_norm=True, dropout=0.1),
    train=aejax.Train(
        epochs=EPOCHS,
        batch_size=BATCH,
        noise=0.1,
        patience=EPOCHS,
        optimizer="sgd",
        learning_rate=0.01,
        feed="stream",
    ),
)


class Counted:
    """Rows that remember which of them were read."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self.read: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.read.append(rows)
        return self.x[rows]


def ecg_rows() -> tuple[np.ndarray, np.ndarray]:
    path = Path(os.environ["AEJAX_DATA_DIR"]) / "ecg5000" / "ecg.csv"
    rows = np.loadtxt(path, delimiter=",", max_rows=1000, dtype=np.float32)
    normal = rows[rows[:, -1] == 1, :-1][: ROWS + 64]
    return normal[:ROWS], normal[ROWS:]


def train(
    folder: Path | None, should_stop: Callable[[], bool] = lambda: False, rows: Any = None
) -> loop.Trained:
    x, x_validation = ecg_rows()
    schema = Schema(shape=(140,), dtype="float32", kind="table")
    feeding.STEPS_IN_STREAM = 2
    return loop.train(
        CONFIG,
        build(CONFIG.model, schema),
        scaling.fit(CONFIG.scale, [x], x.dtype),
        x if rows is None else rows,
        x_validation,
        shape=schema.shape,
        folder=folder,
        should_stop=should_stop,
        checkpoint_seconds=0.0,
        fingerprint="ecg",
    )


def after(calls: int) -> Callable[[], bool]:
    """Says to stop at the call of that number."""
    asked = iter(range(1 << 30))
    return lambda: next(asked) >= calls


def save(path: Path, trained: loop.Trained) -> None:
    history = {
        name: np.array([row[name] for row in trained.history])
        for name in ("loss", "validation_loss", "rows")
    }
    leaves = {str(at): np.asarray(x) for at, x in enumerate(jax.tree.leaves(trained.variables))}
    np.savez(path, best_epoch=trained.best_epoch, **history, **leaves)


def main(folder: Path) -> None:
    processes.join()
    index = jax.process_index()
    assert jax.process_count() == 2
    if (folder / "forever").is_dir():
        train(folder / "forever", lambda: bool(time.sleep(0.2)))
        return
    rows = Counted(ecg_rows()[0])
    save(folder / f"whole-{index}.npz", train(folder / "whole", rows=rows))
    np.save(folder / f"read-{index}.npy", np.stack(rows.read))
    try:
        # Only one is asked to stop; both do, at the same step.
        train(folder / "stopped-in-two", after(7) if index == 1 else (lambda: False))
        raise AssertionError("training was not stopped")
    except loop.Interrupted:
        pass
    save(folder / f"from-one-{index}.npz", train(folder / "stopped-in-one"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
