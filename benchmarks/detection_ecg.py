"""The ECG line: heartbeats, trained on normal ones, with a threshold from training rows only.

The split is that of the TensorFlow tutorial (a fifth of the rows tests, random state 21), which
publishes an accuracy of 0.944. Samples of one signal have one unit, so they are not scaled one
by one; they come with mean 0 and standard deviation 1 over each heartbeat. Averaged networks of
aejax are trained in folds, so that every normal training row has a score from networks that
didn't see it; the threshold is a quantile of those scores. Three choices of size are marked, none
of which looks at a test row: the tutorial's own; the one with the least error on held-out rows;
and the one that best tells held-out normal rows from the training split's anomalous rows, on
which nothing is trained.
Peers are trained in the same folds, dealt once, so that no threshold hangs on the few largest
scores of one fifth of the rows.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Scale
from aejax.detection.metrics import evaluate
from aejax.detection.population import fit_population
from benchmarks import options
from benchmarks.detectors import ENTRIES
from benchmarks.detectors.protocol import Split
from benchmarks.detectors.with_aejax import Form, config
from benchmarks.report import environment_lines, table

QUANTILE = 0.975
FOLDS, REPEATS = 5, 4
SIZES: dict[str, Form] = {
    "140-32-16-8-16-32-140": Form(hidden=(32, 16, 8)),
    "140-16-140": Form(hidden=(16,)),
    "140-64-32-64-140": Form(hidden=(64, 32)),
}
TUTORIAL = "140-32-16-8-16-32-140"
SCALE = Scale(kind="none")
PEERS = ("pyod-knn", "pyod-autoencoder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beats:
    """The tutorial's split.

    Attributes:
        train: normal training rows, float32 [n, 140].
        anomalous: the training split's other rows, float32 [k, 140]; for choosing only.
        test: float32 [m, 140].
        is_anomaly: bool [m], of the test rows.
    """

    train: np.ndarray
    anomalous: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Scores of networks that didn't see the rows.

    Attributes:
        held: of the normal training rows, float64 [n].
        anomalous: of the training split's anomalous rows, float64 [k].
        test: float64 [m].
    """

    held: np.ndarray
    anomalous: np.ndarray
    test: np.ndarray


def read(path: Path) -> Beats:
    """Read the tutorial's file (140 samples and a label, 1 is normal) and split it as it does."""
    from sklearn.model_selection import train_test_split

    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    train, test, train_labels, test_labels = train_test_split(
        table[:, :-1], table[:, -1], test_size=0.2, random_state=21
    )
    return Beats(
        train=train[train_labels == 1],
        anomalous=train[train_labels == 0],
        test=test,
        is_anomaly=test_labels == 0,
    )


def split_of(beats: Beats, picked: np.ndarray, held: np.ndarray) -> Split:
    """Some normal training rows to train on; others, the anomalous and the test rows to score."""
    others = len(beats.anomalous) + len(beats.test)
    return Split(
        protocol="normals",
        train_rows=picked,
        test_rows=np.concatenate([held, len(beats.train) + np.arange(others)]),
        train=beats.train[picked],
        test=np.concatenate([beats.train[held], beats.anomalous, beats.test]),
        is_anomaly=np.concatenate(
            [np.zeros(len(held), bool), np.ones(len(beats.anomalous), bool), beats.is_anomaly]
        ),
        scale=SCALE,
    )


def averaged(form: Form, beats: Beats, seed: int, quick: bool) -> Judged:
    """Scores by networks trained without one fold of the normal training rows each.

    Each repeat deals the rows into folds anew and trains one network without each fold.
    """
    folds = deal(len(beats.train), seed, repeats=1 if quick else REPEATS)
    everything = np.arange(len(beats.train))
    rows = [np.setdiff1d(everything, fold) for fold in folds]
    configs = [
        config(form, split_of(beats, picked, fold), 1000 * seed + member, quick)
        for member, (picked, fold) in enumerate(zip(rows, folds, strict=True))
    ]
    population = fit_population(configs, beats.train, rows=rows)
    held, counts = np.zeros(len(everything)), np.zeros(len(everything))
    anomalous, test = [], []
    for detector, fold in zip(population.detectors, folds, strict=True):
        if detector is None:
            continue
        held[fold] += detector.score(beats.train[fold])
        counts[fold] += 1
        anomalous.append(detector.score(beats.anomalous))
        test.append(detector.score(beats.test))
    return Judged(
        held=held / counts, anomalous=np.mean(anomalous, axis=0), test=np.mean(test, axis=0)
    )


def of_peer(name: str, beats: Beats, seed: int, quick: bool) -> Judged:
    """The same of a peer, fitted without each fold of one deal."""
    detect = ENTRIES[name].load()
    held, anomalous, test = np.zeros(len(beats.train)), [], []
    for fold in deal(len(beats.train), seed, repeats=1):
        picked = np.setdiff1d(np.arange(len(beats.train)), fold)
        scores = detect(split_of(beats, picked, fold), seed, quick).scores
        held[fold], ends = scores[: len(fold)], len(fold) + len(beats.anomalous)
        anomalous.append(scores[len(fold) : ends])
        test.append(scores[ends:])
    return Judged(held=held, anomalous=np.mean(anomalous, axis=0), test=np.mean(test, axis=0))


def deal(rows: int, seed: int, *, repeats: int) -> list[np.ndarray]:
    """Positions of the rows of every fold; each repeat holds every row once."""
    random = np.random.default_rng(seed)
    return [
        fold for _ in range(repeats) for fold in np.array_split(random.permutation(rows), FOLDS)
    ]


def measure(path: Path, *, seeds: int, quick: bool) -> dict[str, Any]:
    """Run every size and peer from every seed."""
    beats = read(path)
    runs: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    jobs: dict[str, Callable[[int], Judged]] = {
        **{
            name: functools.partial(averaged, form, beats, quick=quick)
            for name, form in SIZES.items()
        },
        **{name: functools.partial(of_peer, name, beats, quick=quick) for name in PEERS},
    }
    for seed in range(seeds):
        for name, job in jobs.items():
            if name in missing:
                continue
            started = time.perf_counter()
            try:
                judged = job(seed)
            except ImportError as error:
                missing[name] = f"{type(error).__name__}: {error}"
                continue
            seconds = time.perf_counter() - started
            found = evaluate(
                judged.test,
                beats.is_anomaly,
                float(np.quantile(judged.held, QUANTILE)),
                bootstrap=0,
            )
            runs.append(
                {
                    "detector": name,
                    "seed": seed,
                    "seconds": seconds,
                    "held_out_error": float(np.mean(judged.held)),
                    "training_auroc": _auroc(judged.held, judged.anomalous),
                    "auroc": found["auroc"]["value"],
                    "accuracy": found["accuracy"],
                    "recall": found["anomaly_positive"]["recall"],
                    "false_alarms": found["anomaly_positive"]["false_positives"]
                    / int((~beats.is_anomaly).sum()),
                }
            )
            options.say(f"{name} seed {seed}: AUROC {runs[-1]['auroc']:.4f} ({seconds:.1f} s)")
    names = list(dict.fromkeys(run["detector"] for run in runs))
    summary = {name: _medians([run for run in runs if run["detector"] == name]) for name in names}
    return {
        "suite": "detection",
        "data": "ecg5000",
        "quantile": QUANTILE,
        "seeds": seeds,
        "quick": quick,
        "rows": {"training": len(beats.train), "test": len(beats.test)},
        "tutorial": TUTORIAL,
        "least_error": min(SIZES, key=lambda name: summary[name]["held_out_error"]["median"]),
        "best_on_training": max(SIZES, key=lambda name: summary[name]["training_auroc"]["median"]),
        "summary": summary,
        "missing": missing,
        "runs": runs,
    }


def _auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    return float(roc_auc_score(labels, np.concatenate([normal, anomalous])))


def _medians(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found = {}
    for name in (
        "auroc", "accuracy", "recall", "false_alarms", "held_out_error", "training_auroc",
        "seconds",
    ):  # fmt: skip
        values = [run[name] for run in runs]
        found[name] = {
            "median": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
        }
    return found


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    marks = (
        ("tutorial", "the tutorial's"),
        ("least_error", "least held-out error"),
        ("best_on_training", "best on the training split"),
    )
    rows = []
    for name, one in results["summary"].items():
        auroc, accuracy = one["auroc"], one["accuracy"]
        rows.append(
            [
                name + "".join(f" ({why})" for key, why in marks if results[key] == name),
                f"{one['held_out_error']['median']:.4f}" if name in SIZES else "-",
                f"{one['training_auroc']['median']:.4f}",
                f"{accuracy['median']:.3f}",
                f"{accuracy['lowest']:.3f} to {accuracy['highest']:.3f}",
                f"{auroc['median']:.4f}",
                f"{auroc['lowest']:.4f} to {auroc['highest']:.4f}",
                f"{one['recall']['median']:.3f}",
                f"{one['false_alarms']['median']:.3f}",
                f"{one['seconds']['median']:.1f}",
            ]
        )
    head = [
        "detector", "error of held-out normal rows", "AUROC in the training split", "accuracy",
        "lowest to highest", "AUROC", "lowest to highest", "recall", "false alarms", "s",
    ]  # fmt: skip
    parts = [
        "# ECG5000, the tutorial's split",
        environment_lines(results),
        f"Medians over {results['seeds']} seeds. {results['rows']['training']:,} normal training "
        f"rows in {FOLDS} folds, dealt {1 if results['quick'] else REPEATS} times for aejax and "
        f"once for peers, a network a fold; threshold at the {results['quantile']} quantile of "
        f"held-out rows' scores; {results['rows']['test']:,} test rows.",
        table(head, rows),
        "\n".join(f"- {name}: missing ({why})" for name, why in results["missing"].items()),
    ]
    return "\n\n".join(filter(None, parts))
