"""Many small detectors, one for each of many groups: trained and scored in one call.

    python -m benchmarks.groups [--counts 100 1000 10000] [--json FILE]

times 100 rows of each of so many groups, every number of groups in a process of its own. The rest
is part of `python -m benchmarks.population --groups 1000`: 1,000 groups of 500 rows of 32
features, a 32-8-32 autoencoder each, against Python loops over aejax's own `fit`,
scikit-learn's MLPRegressor and PyOD. A loop is measured on some of the groups, as many as the
table says, and its time for all of them is that time a group.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import aejax
from aejax.config import Config, Dense, Scale, Train
from benchmarks import machine, options, report
from benchmarks.harness import interpreter_environment, timed_process

FEATURES, HIDDEN, BATCH = 32, 8, 128
LATENT, NOISE = 4, 0.1
SHIFT = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of many groups.

    Attributes:
        train: float32 [groups * rows, features], normal rows.
        train_groups: int64, each row's group.
        test: as many rows, of which the second half of every group is anomalous.
        is_anomaly: bool, of the test rows.
    """

    train: np.ndarray
    train_groups: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray


def make_groups(groups: int, rows: int) -> Rows:
    """Groups that have a mixing of a few hidden values each; anomalies have shifted features."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(groups, LATENT, FEATURES))
    level = 10 * random.normal(size=(groups, 1, FEATURES))

    def draw() -> np.ndarray:
        hidden = random.normal(size=(groups, rows, LATENT))
        return hidden @ mixing + level + NOISE * random.normal(size=(groups, rows, FEATURES))

    train, test = draw(), draw()
    wrong = np.arange(rows) >= rows // 2
    test[:, wrong, :3] += SHIFT
    # Interleaved, as rows of many stores come.
    order = random.permutation(groups * rows)
    return Rows(
        train=train.reshape(-1, FEATURES).astype(np.float32)[order],
        train_groups=np.repeat(np.arange(groups), rows)[order],
        test=test.reshape(-1, FEATURES).astype(np.float32)[order],
        is_anomaly=np.tile(wrong, groups)[order],
    )


def config(epochs: int) -> Config:
    """The settings of every group's detector."""
    return Config(
        model=Dense(hidden=(HIDDEN,)),
        scale=Scale(kind="standard"),
        train=Train(epochs=epochs, batch_size=BATCH, learning_rate=5e-3, validation_fraction=0.0),
    )


# Rows of one group and rows to score -> scores, and the seconds of both.
Alone = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float, float]]


def with_aejax(epochs: int) -> Alone:
    """One `fit` and one `score`."""

    def run(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float, float]:
        started = time.perf_counter()
        detector = aejax.fit(config(epochs), train)
        trained = time.perf_counter()
        scores = detector.score(test)
        return scores, trained - started, time.perf_counter() - trained

    return run


def with_sklearn(epochs: int) -> Alone:
    """StandardScaler and MLPRegressor of the same sizes, epochs, batch and rate."""
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    def run(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float, float]:
        started = time.perf_counter()
        scaler = StandardScaler().fit(train)
        model = MLPRegressor(
            hidden_layer_sizes=(HIDDEN,),
            batch_size=min(BATCH, len(train)),
            max_iter=epochs,
            alpha=0.0,
            learning_rate_init=5e-3,
            n_iter_no_change=epochs + 1,
            random_state=0,
        )
        x = scaler.transform(train)
        with warnings.catch_warnings():
            # It is stopped after as many epochs as the others, on purpose.
            warnings.simplefilter("ignore")
            model.fit(x, x)
        trained = time.perf_counter()
        x = scaler.transform(test)
        scores = np.square(model.predict(x) - x).mean(axis=1)
        return scores, trained - started, time.perf_counter() - trained

    return run


def with_pyod(epochs: int) -> Alone:
    """PyOD's AutoEncoder of the same sizes, epochs and batch, with its other defaults."""
    from pyod.models.auto_encoder import AutoEncoder

    def run(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float, float]:
        started = time.perf_counter()
        model = AutoEncoder(
            hidden_neuron_list=[HIDDEN],
            epoch_num=epochs,
            batch_size=BATCH,
            lr=5e-3,
            batch_norm=False,
            dropout_rate=0.0,
            verbose=0,
        ).fit(train)
        trained = time.perf_counter()
        scores = model.decision_function(test)
        return scores, trained - started, time.perf_counter() - trained

    return run


LOOPS: dict[str, tuple[str, Callable[[int], Alone]]] = {
    "aejax": ("aejax fit, one after the other", with_aejax),
    "sklearn": ("scikit-learn MLPRegressor, a loop", with_sklearn),
    "pyod": ("PyOD AutoEncoder, a loop", with_pyod),
}


def measure(
    groups: int, rows: int, epochs: int, looped: int, repeats: int, peers: Sequence[str]
) -> list[dict[str, Any]]:
    """Train and score all groups at once, and some of them one by one."""
    data = make_groups(groups, rows)
    found = [_together(data, epochs, groups, repeats)]
    for name in ("aejax", *peers):
        if name not in LOOPS:
            continue
        title, make = LOOPS[name]
        try:
            alone = make(epochs)
        except ImportError as error:
            found.append({"name": title, "missing": str(error)})
            continue
        options.say(f"{title}: {min(looped, groups)} of {groups} groups")
        found.append(_one_by_one(title, alone, data, min(looped, groups)))
    return found


def _together(data: Rows, epochs: int, groups: int, repeats: int) -> dict[str, Any]:
    training, scoring = [], []
    for turn in range(repeats + 1):
        options.say(f"{groups} groups together, turn {turn} of {repeats}")
        started = time.perf_counter()
        detector = aejax.fit(config(epochs), data.train, groups=data.train_groups)
        trained = time.perf_counter()
        scores = detector.score(data.test, groups=data.train_groups)
        training.append(trained - started)
        scoring.append(time.perf_counter() - trained)
    return {
        "name": "aejax fit(groups=), all at once",
        "groups_measured": groups,
        "first_call_seconds": training[0],
        "train_seconds_a_group": float(np.median(training[1:])) / groups,
        "score_rows_a_second": len(data.test) / float(np.median(scoring[1:])),
        "mean_auroc": _mean_auroc(scores, data, range(groups)),
    }


def _one_by_one(title: str, alone: Alone, data: Rows, count: int) -> dict[str, Any]:
    scores = np.full(len(data.test), np.nan)
    training, scoring, rows = [], [], 0
    # The first group compiles, or imports; it is trained again and not counted.
    for turn, group in enumerate([0, *range(count)]):
        own = data.train_groups == group
        found, train_seconds, score_seconds = alone(data.train[own], data.test[own])
        scores[own] = found
        if turn:
            training.append(train_seconds)
            scoring.append(score_seconds)
            rows += int(own.sum())
        else:
            first = train_seconds
    return {
        "name": title,
        "groups_measured": count,
        "first_call_seconds": first,
        "train_seconds_a_group": float(np.mean(training)),
        "score_rows_a_second": rows / sum(scoring),
        "mean_auroc": _mean_auroc(scores, data, range(count)),
    }


def _mean_auroc(scores: np.ndarray, data: Rows, groups: Sequence[int]) -> float:
    areas = []
    for group in groups:
        own = data.train_groups == group
        areas.append(roc_auc_score(data.is_anomaly[own], scores[own]))
    return float(np.mean(areas))


def as_table(results: Sequence[dict[str, Any]], groups: int) -> str:
    """The results in Markdown."""
    lines = []
    reference = results[0]["train_seconds_a_group"]
    for one in results:
        if "missing" in one:
            lines.append([one["name"], "-", "-", "-", "-", "-", f"missing ({one['missing']})"])
            continue
        a_group = one["train_seconds_a_group"]
        lines.append(
            [
                one["name"],
                str(one["groups_measured"]),
                f"{1000 * a_group:.2f}",
                f"{a_group * groups:.1f}",
                f"{a_group / reference:.1f}x",
                f"{one['score_rows_a_second']:,.0f}",
                f"{one['mean_auroc']:.4f}",
            ]
        )
    head = ["how", "groups measured", "ms a group", f"s for {groups}", "of all at once"]
    return report.table([*head, "rows scored a second", "mean AUROC"], lines)


def _point(groups: int, rows: int, epochs: int) -> dict[str, float]:
    """One `fit` and one `score` of so many groups, compiling included."""
    data = make_groups(groups, rows)
    wall, cpu = [time.perf_counter()], [time.process_time()]
    detector = aejax.fit(config(epochs), data.train, groups=data.train_groups)
    wall, cpu = [*wall, time.perf_counter()], [*cpu, time.process_time()]
    detector.score(data.test, groups=data.train_groups)
    wall, cpu = [*wall, time.perf_counter()], [*cpu, time.process_time()]
    return {
        "fit_seconds": wall[1] - wall[0],
        "fit_cpu_seconds": cpu[1] - cpu[0],
        "score_seconds": wall[2] - wall[1],
        "score_cpu_seconds": cpu[2] - cpu[1],
    }


def curve(counts: Sequence[int], rows: int, epochs: int) -> list[dict[str, Any]]:
    """Each number of groups in a process of its own, with the most memory that it held."""
    found = []
    for groups in counts:
        options.say(f"{groups} groups of {rows} rows")
        one = ["-m", "benchmarks.groups", "--one", str(groups), str(rows), str(epochs)]
        ended = timed_process(one, interpreter_environment("cpu"))
        seconds = json.loads(ended.output.splitlines()[-1]) if ended.failure is None else {}
        found.append(
            {"groups": groups, **seconds, "peak_bytes": ended.peak_bytes, "failure": ended.failure}
        )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every number of groups."""
    parser = argparse.ArgumentParser("benchmarks.groups", description="Time and memory by groups.")
    parser.add_argument("--counts", type=options.count, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--group-rows", type=options.count, default=100)
    parser.add_argument("--epochs", type=options.count, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        print(json.dumps(_point(*given.one)))
        return
    results = {
        "environment": machine.environment(),
        "group_rows": given.group_rows,
        "epochs": given.epochs,
        "curve": curve(given.counts, given.group_rows, given.epochs),
    }
    report.keep(results, given.json)
    lines = [
        [
            f"{one['groups']:,}",
            *(f"{one[name]:.1f}" for name in ("fit_seconds", "fit_cpu_seconds")),
            f"{1000 * one['fit_cpu_seconds'] / one['groups']:.2f}",
            *(f"{one[name]:.1f}" for name in ("score_seconds", "score_cpu_seconds")),
            f"{(one['peak_bytes'] or 0) / (1 << 20):,.0f}",
        ]
        if one["failure"] is None
        else [f"{one['groups']:,}", str(one["failure"]), *[""] * 5]
        for one in results["curve"]
    ]
    head = ["groups", "fit s", "CPU s", "CPU ms a group", "score s", "CPU s", "peak MiB"]
    rows = f"{given.group_rows} rows a group, {given.epochs} epochs, 32-8-32"
    print(f"# Groups on a CPU: {rows}\n\n{report.environment_lines(results)}\n")
    print(report.table(head, lines))


if __name__ == "__main__":
    main()
