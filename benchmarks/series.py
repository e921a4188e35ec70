"""How well windows find labelled stretches of published series, beside peers on the same windows.

    python -m benchmarks.series --json FILE [--seeds 0 1 2] [--detectors aejax pca ...]

The 22 series of the Numenta Anomaly Benchmark that TSB-AD-U holds and `tsb_ad_u.csv` names (Liu and
Paparrizos, "The elephant in the room: towards a reliable time-series anomaly detection
benchmark", NeurIPS 2024). Detectors are trained on the stated first part and score all points;
"sub-pca" alone is fitted on all of them, as it was published. Nothing is chosen by labels: aejax is
`Config.of_effort("standard")` with windows of the length that it finds itself; peers take
the same windows, and PyOD's network those of 100 as its published number. All windows' scores
become points' by the mean over the windows that hold the point, but for "sub-pca", which gives a
window's to its middle. With `--json` every run is a line, and the same command continues.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import aejax
from aejax.data.datasets import load_nab, nab_folder
from aejax.data.schema import Schema, Series
from aejax.data.series import point_scores, windows_of
from aejax.detection.series_metrics import volumes
from benchmarks import options
from benchmarks.detection import append_line, read_lines

# Of the 23 series that TSB-AD-U holds, VUS-PR in the mean, as its authors publish them.
PUBLISHED = {"sub-pca": 0.436, "pyod-autoencoder": 0.317}


class Labelled(NamedTuple):
    """A published series.

    Attributes:
        name: of its file.
        values: float64 [n].
        is_anomaly: which points lie in a labelled window, bool [n].
        train: how many of the first points train.
    """

    name: str
    values: np.ndarray
    is_anomaly: np.ndarray
    train: int


def published_series(folder: Path) -> list[Labelled]:
    """The series that `tsb_ad_u.csv` names, with the labelled windows of the benchmark."""
    with (folder / "tsb_ad_u.csv").open(encoding="utf-8", newline="") as named:
        lines = list(csv.DictReader(named))
    found = []
    for line in lines:
        series = load_nab(line["file"], int(line["length"]))
        own = (series.values, series.is_anomaly, int(line["train_length"]))
        found.append(Labelled(line["file"], *own))
    return found


def buffer_of(values: np.ndarray) -> int:
    """The period that TSB-AD measures by: the lag of the highest peak of the autocorrelation.

    At most 300 points, of which the first three don't count, and 125 where there is none.
    """
    x = values[:20_000] - values[:20_000].mean()
    size = 1 << (2 * len(x) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(x, size)) ** 2
    correlation = np.fft.irfft(spectrum, size)[3:401]
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:])) + 1
    if not len(peaks):
        return 125
    best = int(peaks[np.argmax(correlation[peaks])])
    return best + 3 if 3 <= best <= 300 else 125


def aejax_scores(series: Labelled, seed: int) -> tuple[np.ndarray, int]:
    """Scores of all points, and the length of the windows."""
    config = aejax.Config.of_effort("standard", window=aejax.Window(scores="centred"))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
    detector = aejax.fit(config, series.values[: series.train])
    return detector.score(series.values), detector.schema.shape[0]


def errors_of(model: aejax.Dense | aejax.Temporal) -> Any:
    """The same of an autoencoder's plain reconstruction error."""

    def scores(series: Labelled, seed: int) -> tuple[np.ndarray, int]:
        config = aejax.Config(
            model=model,
            train=aejax.Train(steps=1500, seed=seed),
            window=aejax.Window(scores="centred"),
        )
        detector = aejax.fit(config, series.values[: series.train])
        return detector.score(series.values), detector.schema.shape[0]

    return scores


def to_points(scores: np.ndarray, length: int, rows: int) -> np.ndarray:
    """Scores of points of those of all windows, as a detector with centred windows gives them."""
    window = aejax.Window(length=length, scores="centred")
    series = Series(points=Schema(shape=(1,)), window=window)
    return point_scores(scores, np.arange(1, rows + 1), series)


def _windows(series: Labelled, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the training part and of all points, standardised by the training part."""
    own = series.values[: series.train]
    x = (series.values - own.mean()) / max(own.std(), 1e-12)
    every = windows_of(x[:, None], length)[:, :, 0]
    return every[: series.train - length + 1], every


def pca(series: Labelled, length: int, seed: int) -> np.ndarray:
    """Squared distance from the principal components that hold 90 % of the variance."""
    training, every = _windows(series, length)
    mean = training.mean(axis=0)
    _, size, axes = np.linalg.svd(training - mean, full_matrices=False)
    share = np.cumsum(size**2) / max(float(np.sum(size**2)), 1e-30)
    axes = axes[: int(np.searchsorted(share, 0.9)) + 1]
    apart = every - mean
    return np.asarray(((apart - apart @ axes.T @ axes) ** 2).mean(axis=1))


def neighbours(series: Labelled, length: int, seed: int) -> np.ndarray:
    """Mean squared distance from the 5 nearest training windows."""
    from sklearn.neighbors import NearestNeighbors

    training, every = _windows(series, length)
    near = NearestNeighbors(n_neighbors=6).fit(training)
    # A training window is its own nearest one.
    return np.asarray((near.kneighbors(every)[0][:, 1:] ** 2).mean(axis=1))


def isolation_forest(series: Labelled, length: int, seed: int) -> np.ndarray:
    """scikit-learn's, of windows."""
    from sklearn.ensemble import IsolationForest

    training, every = _windows(series, length)
    return np.asarray(-IsolationForest(random_state=seed).fit(training).score_samples(every))


def sub_pca(series: Labelled, seed: int) -> tuple[np.ndarray, int]:
    """PyOD's weighted distances from all components, of windows of all points, as published."""
    length, rows = buffer_of(series.values), len(series.values)
    every = windows_of(series.values[:, None], length)[:, :, 0]
    spread = every.std(axis=0)
    x = (every - every.mean(axis=0)) / np.where(spread > 0, spread, 1)
    _, size, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    weights = size**2 / np.sum(size**2)
    kept = weights > 1e-12
    squared = (x**2).sum(axis=1)[:, None] - 2 * x @ axes[kept].T + 1
    scores = (np.sqrt(np.maximum(squared, 0)) / weights[kept]).sum(axis=1)
    before = -(-(length - 1) // 2)
    return np.pad(scores, (before, rows - len(scores) - before), "edge"), length


def pyod_autoencoder(series: Labelled, seed: int) -> tuple[np.ndarray, int]:
    """PyOD's network with its own settings on windows of 100."""
    from pyod.models.auto_encoder import AutoEncoder

    length = min(100, series.train // 2)
    training, every = _windows(series, length)
    model = AutoEncoder(random_state=seed, verbose=0)
    model.fit(training)
    return to_points(model.decision_function(every), length, len(series.values)), length


def of_windows(score: Callable[[Labelled, int, int], np.ndarray]) -> Any:
    """A peer that takes windows of the length that aejax finds."""

    def scores(series: Labelled, seed: int) -> tuple[np.ndarray, int]:
        own = series.values[: series.train].astype(np.float32)
        length = found_length(own)
        return to_points(score(series, length, seed), length, len(series.values)), length

    return scores


def found_length(values: np.ndarray) -> int:
    """The length of windows that aejax finds in the training part."""
    from aejax.detection.file_rows import training_series

    config = aejax.Config(model=aejax.Dense(), window=aejax.Window())
    return training_series(config, values)[0].schema.shape[0]


# What is random has several seeds.
DETECTORS: dict[str, tuple[Callable[[Labelled, int], tuple[np.ndarray, int]], bool]] = {
    "aejax": (aejax_scores, True),
    "aejax-dense": (errors_of(aejax.Dense()), True),
    "aejax-temporal": (errors_of(aejax.Temporal()), True),
    "neighbours": (of_windows(neighbours), False),
    "pca": (of_windows(pca), False),
    "isolation-forest": (of_windows(isolation_forest), True),
    "sub-pca": (sub_pca, False),
    "pyod-autoencoder": (pyod_autoencoder, True),
}


def run_one(name: str, series: Labelled, seed: int) -> dict[str, Any]:
    """The measures of one detector on one series."""
    started = time.monotonic()
    scores, length = DETECTORS[name][0](series, seed)
    seconds = time.monotonic() - started
    found = volumes(scores, series.is_anomaly, buffer_of(series.values))
    return {
        "detector": name,
        "series": series.name,
        "seed": seed,
        "length": length,
        "vus_pr": found.pr,
        "vus_roc": found.roc,
        "seconds": round(seconds, 2),
    }


def table(runs: list[dict[str, Any]], names: list[str]) -> str:
    """Means over series and seeds, in Markdown."""
    lines = [
        "| detector | VUS-PR | published | VUS-ROC | seeds | series |",
        "| --- |" + " ---: |" * 5,
    ]
    for name in names:
        own = [run for run in runs if run["detector"] == name]
        if not own:
            continue
        pr, roc = (np.mean([run[field] for run in own]) for field in ("vus_pr", "vus_roc"))
        seeds, count = (len({run[field] for run in own}) for field in ("seed", "series"))
        known = f"{PUBLISHED[name]:.3f}" if name in PUBLISHED else ""
        lines.append(f"| {name} | {pr:.3f} | {known} | {roc:.3f} | {seeds} | {count} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, default=None, help="file of lines; continued")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--series", type=int, default=None, help="only so many series")
    asked = parser.parse_args()
    runs = read_lines(asked.json)
    done = {(run["detector"], run["series"], run["seed"]) for run in runs}
    for series in published_series(nab_folder())[: asked.series]:
        for name in asked.detectors:
            for seed in asked.seeds if DETECTORS[name][1] else asked.seeds[:1]:
                if (name, series.name, seed) in done:
                    continue
                try:
                    run = run_one(name, series, seed)
                except ImportError as error:
                    options.say(f"{name}: missing ({error})")
                    break
                append_line(asked.json, run)
                runs.append(run)
                options.say(f"{series.name} {name} {seed}: {run['vus_pr']:.3f}")
    print(table(runs, asked.detectors))


if __name__ == "__main__":
    main()
