"""What `test_mesh.py` runs in a process with so many devices: train, score, write files.

python devices_program.py DEVICES DETECTOR ROWS OUT
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aejax
from aejax.core import mesh, steps
from aejax.training import population
from tests.plain import plain_config

DEVICES = int(sys.argv[1])


def train(x: np.ndarray, feed: Any, batch_size: int) -> dict[str, np.ndarray]:
    """Everything that decides numbers at once: noise, dropout, BatchNorm, early stopping."""
    detector = aejax.fit(
        plain_config(
            model=aejax.Dense(hidden=(8, 3), batch_norm=True, dropout=0.1),
            train=aejax.Train(
                epochs=3, batch_size=batch_size, noise=0.1, patience=3, feed=feed, optimizer="sgd"
            ),
        ),
        x,
    )
    names = ("loss", "validation_loss")
    found = {f"{feed} {name}": np.array([h[name] for h in detector.history]) for name in names}
    for at, leaf in enumerate(jax.tree.leaves(detector.variables)):
        found[f"{feed} {at}"] = np.asarray(leaf)
    return found


def hlo_of_score(detector: Any, place: mesh.Placement, x: np.ndarray) -> str:
    arrays = place.everywhere((detector.variables, detector.scaler))
    batch = place.rows(x[: 16 * DEVICES])
    lowered = steps.compiled_score.jitted(detector.scoring).lower(detector.scoring, *arrays, batch)
    return lowered.compile().as_text()


def train_ensemble(x: np.ndarray) -> tuple[dict[str, np.ndarray], list[int]]:
    """Eight members in groups of two; the devices that the groups' programs ran on."""
    used: set[int] = set()
    lock = threading.Lock()
    train_members = steps.compiled_train_members

    def spy(*args: Any, **how: Any) -> Any:
        found = train_members(*args, **how)
        with lock:
            used.update(device.id for device in jax.tree.leaves(found[0])[0].devices())
        return found

    population.steps.compiled_train_members = spy
    members = [
        plain_config(
            model=aejax.Dense(hidden=(3,)), train=aejax.Train(epochs=1, batch_size=64, seed=seed)
        )
        for seed in range(8)
    ]
    found = aejax.fit_population(members, x, group_size=2)
    scores = np.stack([detector.score(x) for detector in found.detectors])
    return {"ensemble": scores}, sorted(used)


def main() -> None:
    folder, x, out = Path(sys.argv[2]), np.load(sys.argv[3]), Path(sys.argv[4])
    assert jax.local_device_count() == DEVICES
    found = train(x, "device", 64)
    # Fifty rows don't divide by four or eight devices.
    found |= train(x, "stream", 50)
    # One set of shapes, one program: arrays lie after a step where they lay before it.
    assert steps.compiled_train_step.programs() == 1
    assert steps.compiled_train_steps.programs() == 1

    detector = aejax.load(folder)
    place = mesh.on_devices(None)
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert word not in hlo_of_score(detector, place, x), word
    found["scores"] = detector.score(x, batch_size=16)
    found["scores of few rows"] = detector.score(x[:10], batch_size=16)
    found["reasons"], found["errors"] = detector.explain_rows(x, top=3, batch_size=16)[1:]
    np.save(out / "x.npy", x)
    job = aejax.score_files(detector, out / "x.npy", out / "scores", batch_size=16, part_rows=256)
    assert job["rows"] == len(x)
    members, used = train_ensemble(x)
    assert used == list(range(min(DEVICES, 4))), used
    found |= members
    np.savez(out / "found.npz", **found)


main()
