"""This checkout beside another one, job by job in turns: `python -m benchmarks.compare OTHER`.

Every turn of a job is a fresh process in either checkout: it warms up and times the job a few
times. Ratios are of medians, the other one's seconds over this one's: above 1 this one is faster.
Both are run by this interpreter, so the other checkout needs the packages that are installed here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parents[1]
REPEATS = 5


def _rows(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, *shape), np.float32)


def _config(**settings: Any) -> Any:
    """A configuration scored by its error, whose threshold comes from held-out rows."""
    import aejax

    # There was no other way before there was a setting.
    known = {field.name for field in dataclasses.fields(aejax.Config)}
    held_out = {"calibration": "held-out"} if "calibration" in known else {}
    return aejax.Config(score="error", **held_out, **settings)


def _scoring(model: Any, x: np.ndarray) -> Callable[[], object]:
    import aejax

    train = aejax.Train(epochs=1, batch_size=256)
    config = _config(model=model, train=train, scale=aejax.Scale(kind="none"))
    detector = aejax.fit(config, x[:2048])
    return lambda: detector.score(x)


def _training(model: Any, x: np.ndarray, epochs: int) -> Callable[[], object]:
    import aejax

    train = aejax.Train(epochs=epochs, batch_size=256, optimizer="adam", schedule="constant")
    config = _config(model=model, train=train, scale=aejax.Scale(kind="none"))
    return lambda: aejax.fit(config, x)


def _groups(count: int) -> Callable[[], object]:
    import aejax

    x, groups = _rows(100 * count, 32), np.repeat(np.arange(count), 100)
    config = _config(model=aejax.Dense(hidden=(8,)), train=aejax.Train(epochs=10, batch_size=32))
    # As it was called before there was one `fit`.
    if (fit_groups := getattr(aejax, "fit_groups", None)) is not None:
        return lambda: fit_groups(config, x, groups)
    return lambda: aejax.fit(config, x, groups=groups)


def _one_row() -> Callable[[], object]:
    score = _scoring_of_one()

    def many() -> None:
        for _ in range(1000):
            score()

    return many


def _scoring_of_one() -> Callable[[], object]:
    import aejax

    x = _rows(2048, 30)
    config = _config(model=aejax.Dense(), train=aejax.Train(epochs=1))
    detector = aejax.fit(config, x)
    row = x[:1]
    return lambda: detector.score(row)


def _start_up() -> Callable[[], object]:
    import aejax

    folder = Path(tempfile.mkdtemp())
    x = _rows(1000, 20)
    config = _config(model=aejax.Dense(), train=aejax.Train(epochs=1))
    aejax.fit(config, x).save(folder / "detector")
    np.save(folder / "rows.npy", x)
    turn = iter(range(1 << 30))

    def score() -> None:
        command = ["score", folder / "detector", "--input", folder / "rows.npy", "--quiet"]
        out = ["--out", folder / f"scores-{next(turn)}"]
        subprocess.run(
            [sys.executable, "-m", "aejax", *map(str, [*command, *out])],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return score


def _jobs() -> dict[str, Callable[[], Callable[[], object]]]:
    import aejax

    dense, ecg = aejax.Dense(hidden=(64,)), aejax.Dense(hidden=(32, 16, 8))
    conv = aejax.Conv(channels=(16, 8))
    return {
        "dense scoring, 60,000 x 784": lambda: _scoring(dense, _rows(60_000, 784)),
        "ECG scoring, 500,000 x 140": lambda: _scoring(ecg, _rows(500_000, 140)),
        "denoiser scoring, 2,000 x 28 x 28": lambda: _scoring(conv, _rows(2000, 28, 28, 1)),
        "dense training, 20,000 x 784, 2 epochs": lambda: _training(dense, _rows(20_000, 784), 2),
        "ECG training, 20,000 x 140, 5 epochs": lambda: _training(ecg, _rows(20_000, 140), 5),
        "denoiser training, 2,000 x 28 x 28": lambda: _training(conv, _rows(2000, 28, 28, 1), 1),
        "1,000 groups": lambda: _groups(1000),
        "one row, a thousand times": _one_row,
        "start-up: aejax score of 1,000 rows": _start_up,
    }


def _timed(name: str) -> list[float]:
    job = _jobs()[name]()
    job()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - started)
    return seconds


def _in_checkout(home: Path, name: str) -> list[float]:
    environment = {**os.environ, "PYTHONPATH": str(home)}
    program = [sys.executable, str(Path(__file__).resolve()), "--job", name]
    ended = subprocess.run(
        program, env=environment, cwd=home, check=True, capture_output=True, text=True
    )
    found: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a line for every job: medians of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, help="another checkout of this repository")
    parser.add_argument("--turns", type=int, default=3, help="processes of each job and checkout")
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job is not None:
        print(json.dumps(_timed(asked.job)))
        return
    if asked.other is None:
        parser.error("another checkout is missing")
    for name in _jobs():
        if asked.only not in name:
            continue
        here: list[float] = []
        there: list[float] = []
        for _ in range(asked.turns):
            there += _in_checkout(asked.other.resolve(), name)
            here += _in_checkout(HOME, name)
        ours, theirs = statistics.median(here), statistics.median(there)
        print(f"| {name} | {theirs:.4g} s | {ours:.4g} s | {theirs / ours:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
