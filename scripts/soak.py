"""Rounds of training and scoring that are killed and started again, beside rounds that aren't.

    scripts/soak.sh [minutes] [seed]

A round draws a configuration, rows and moments of death from its seed. Two folders are trained
and scored: one without a pause, one whose processes are killed (SIGKILL) at those moments and
started again until they end. Then parameters, scores and journals have to be the same,
byte for byte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
MOST_KILLS = 4
# Longer than any command takes on a machine that is busy with other work: it hangs.
COMMAND_SECONDS = 1200


def aejax(*arguments: str) -> subprocess.Popen[bytes]:
    """A process of the command line, whose complaints are kept for the end."""
    return subprocess.Popen(
        [sys.executable, "-m", "aejax", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )


def finish(process: subprocess.Popen[bytes]) -> float:
    """Seconds until a process ends well."""
    started = time.monotonic()
    _, printed = process.communicate(timeout=COMMAND_SECONDS)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {printed.decode()[-2000:]}")
    return time.monotonic() - started


def finish_with_deaths(draw: random.Random, usual: float, *arguments: str) -> int:
    """Kill a command at moments within its usual time, then let it end; how often it was killed."""
    kills = 0
    for _ in range(draw.randint(1, MOST_KILLS)):
        process = aejax(*arguments)
        try:
            # Its first seconds are imports: most deaths should come later.
            process.wait(usual * draw.uniform(0.3, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            process.communicate()
    finish(aejax(*arguments))
    return kills


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder that two equal jobs have in common."""
    passing = (".lock", ".totals")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in passing
    }


def model_of(run: Path) -> str:
    """The name of a run's arrays: the digest of their content."""
    (arrays,) = (run / "detector").glob("arrays-*")
    return arrays.name


def one_round(seed: int, folder: Path) -> str:
    """Train, score and compare; what was done, in words."""
    draw = random.Random(seed)
    numbers = np.random.default_rng(seed)
    features, rows = draw.randint(3, 40), draw.randint(1_000, 8_000)
    mixed = numbers.normal(size=(rows, 3)) @ numbers.normal(size=(3, features))
    x = (mixed + 0.1 * numbers.normal(size=mixed.shape)).astype(np.float32)
    np.save(folder / "rows.npy", x)
    hidden = [str(draw.randint(4, 32)), str(draw.randint(2, 4))]
    train = ["train", "--input", str(folder / "rows.npy"), "--quiet", "--seed", str(seed)]
    train += ["--hidden", *hidden, "--epochs", str(draw.randint(3, 12)), "--noise", "0.1"]
    train += ["--feed", draw.choice(["device", "stream"]), "--batch-size", "64"]
    score = ["--input", str(folder / "rows.npy"), "--top", "10", "--quiet"]
    score += ["--part-rows", str(draw.randint(100, 2_000))]
    score += ["--top-features", str(draw.choice([0, 2]))]

    whole, killed = folder / "whole", folder / "killed"
    seconds = finish(aejax(*train, "--out", str(whole)))
    kills = finish_with_deaths(draw, seconds, *train, "--out", str(killed))
    if model_of(whole) != model_of(killed):
        raise SystemExit(f"seed {seed}: the killed run has other parameters ({folder})")
    # One run scores both, because a run's folder name is not in its scores but its bytes are.
    seconds = finish(aejax("score", str(whole), *score, "--out", str(folder / "scores")))
    again = folder / "scores-killed"
    kills += finish_with_deaths(draw, seconds, "score", str(whole), *score, "--out", str(again))
    if contents(folder / "scores") != contents(again):
        raise SystemExit(f"seed {seed}: the killed job has other scores ({folder})")
    return f"{rows} rows of {features}, {kills} kills, the same parameters and scores"


def main() -> None:
    """Rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", nargs="?", type=float, default=5.0)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    end = time.monotonic() + 60 * given.minutes
    rounds, seed = 0, given.seed
    while rounds == 0 or time.monotonic() < end:
        # Kept where a round fails: what it left is what is to be understood.
        folder = Path(tempfile.mkdtemp(prefix=f"aejax-soak-{seed}-"))
        started = time.monotonic()
        did = one_round(seed, folder)
        shutil.rmtree(folder)
        rounds, seed = rounds + 1, seed + 1
        print(f"seed {seed - 1}: {did} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{rounds} rounds, no difference")


if __name__ == "__main__":
    main()
