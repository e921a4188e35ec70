"""Whether thresholds keep their promise: flags that were promised and flags on rows held out.

    python -m benchmarks.promises --folder DIR [--thresholds fit cross-fitted] [--json FILE]

Half of a table's normal rows train, the other half is what is flagged. "fit" is the threshold that
`aejax.fit` sets by `Quantile`. "cross-fitted" is a prototype: the rows are cut into folds, each is
scored by a network trained on the others, and the threshold that is set on these scores, of as many
rows as there are, is the detector's that is trained on all of them (`beyond` says how). What is
seen of kept neighbours leaves a row itself out either way.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

import aejax
from aejax.detection.cross_validation import split_folds
from aejax.rules.tails import FEWEST_FOR_SHAPE, fit_tail
from benchmarks import machine, options, report
from benchmarks.detectors import protocol

RATES = (0.01, 0.05)
FOLDS = 5
# So many scores beyond it, and a quantile is as good as any tail; and the share that is a tail.
ENOUGH, TAIL = 8, 0.1
# So many flags are expected of a table that can tell whether a promise is kept.
TELLING = 5
MOST_TRAIN, MOST_TEST = 10_000, 20_000


def beyond(scores: np.ndarray, rate: float) -> float:
    """The value that a new score passes with probability `rate`.

    The quantile where it leaves at least `ENOUGH` scores beyond; otherwise a generalised Pareto
    tail, fitted to the largest tenth as in `aejax.rules.tails`, but to no fewer than
    `FEWEST_FOR_SHAPE`, of which a new score is one with probability (their number) / (n + 1).
    """
    ordered = np.sort(scores)
    rows = len(ordered)
    peaks = min(max(FEWEST_FOR_SHAPE, int(TAIL * rows)), rows - 1)
    above = ordered[rows - peaks :] - ordered[rows - peaks - 1]
    above = above[above > 0]
    share = len(above) / (rows + 1)
    if rate * (rows + 1) >= ENOUGH or rate >= share:
        return float(np.quantile(ordered, 1 - rate))
    shape, scale = fit_tail(above)
    times = math.log(share / rate)
    reach = times if abs(shape) < 1e-9 else math.expm1(shape * times) / shape
    return float(ordered[rows - peaks - 1] + scale * reach)


def fitted(config: aejax.Config, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Flags of the test rows at every rate, by the threshold that `fit` sets."""
    flags = []
    for rate in RATES:
        one = dataclasses.replace(config, rule=aejax.Quantile(q=1 - rate))
        flags.append(np.asarray(aejax.fit(one, train).predict(test)))
    return flags


def cross_fitted(config: aejax.Config, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Flags of the test rows at every rate, by thresholds on scores of rows not trained on."""
    settings = dataclasses.replace(config.train, validation_fraction=0.0)
    config = dataclasses.replace(config, train=settings)
    folds = split_folds(len(train), min(FOLDS, len(train)), config.train.seed)
    everywhere = np.arange(len(train))
    rows = [np.setdiff1d(everywhere, fold) for fold in folds]
    population = aejax.fit_population([config] * (len(folds) + 1), train, rows=[*rows, everywhere])
    *others, whole = population.detectors
    scores = np.empty(len(train))
    for fold, detector in zip(folds, others, strict=True):
        assert detector is not None
        scores[fold] = detector.score(train[fold])
    assert whole is not None
    of_test = whole.score(test)
    return [of_test > beyond(scores, rate) for rate in RATES]


THRESHOLDS: dict[str, Callable[[aejax.Config, np.ndarray, np.ndarray], list[np.ndarray]]] = {
    "fit": fitted,
    "cross-fitted": cross_fitted,
}


def measure(
    tables: dict[str, Path], names: Sequence[str], config: aejax.Config, seed: int
) -> Iterator[dict[str, Any]]:
    """One line a table, threshold and rate."""
    for table, path in tables.items():
        jax.clear_caches()
        split = protocol.split(
            protocol.read(table, path), "normals", seed, most_train=MOST_TRAIN, most_test=MOST_TEST
        )
        normal = split.test[~split.is_anomaly]
        for name in names:
            for rate, flags in zip(
                RATES, THRESHOLDS[name](config, split.train, normal), strict=True
            ):
                found = stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(0.95)
                line = {
                    "table": table,
                    "threshold": name,
                    "train_rows": len(split.train),
                    "test_rows": len(normal),
                    "promised": rate,
                    "flagged": float(flags.mean()),
                    "low": float(found.low),
                    "high": float(found.high),
                }
                options.say(f"{table} {name}: promised {rate:.0%}, flagged {flags.mean():.1%}")
                yield line


def summarise(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the tables that have enough test rows to tell say of each threshold and rate."""
    found = []
    for name in dict.fromkeys(line["threshold"] for line in lines):
        for rate in RATES:
            telling = [
                line["flagged"] / rate
                for line in lines
                if line["threshold"] == name
                and line["promised"] == rate
                and line["test_rows"] * rate >= TELLING
            ]
            if telling:
                times = np.array(telling)
                found.append(
                    {
                        "threshold": name,
                        "promised": rate,
                        "tables": len(times),
                        "mean": float(times.mean()) * rate,
                        "within": float(np.mean((times >= 0.5) & (times <= 2))),
                        "largest": float(times.max()) * rate,
                    }
                )
    return found


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    head = ["threshold", "promised", "tables", "flagged, mean", "within half to double", "largest"]
    rows = [
        [
            one["threshold"],
            f"{one['promised']:.0%}",
            str(one["tables"]),
            f"{one['mean']:.1%}",
            f"{one['within']:.0%}",
            f"{one['largest']:.1%}",
        ]
        for one in results["summary"]
    ]
    each = ["table", "threshold", "training rows", "test rows", "promised", "flagged", "95 %"]
    lines = [
        [
            line["table"],
            line["threshold"],
            f"{line['train_rows']:,}",
            f"{line['test_rows']:,}",
            f"{line['promised']:.0%}",
            f"{line['flagged']:.1%}",
            f"{line['low']:.1%} to {line['high']:.1%}",
        ]
        for line in results["lines"]
    ]
    return "\n\n".join(
        [
            "# Promised and realised false alarms",
            report.environment_lines(results),
            f"Of tables on which at least {TELLING} flags are expected.",
            report.table(head, rows),
            report.table(each, lines),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.promises", description="Promised and realised false alarms."
    )
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="of npz files with X and y")
    add("--datasets", nargs="+", help="names of sets (all of the folder)")
    add("--thresholds", nargs="+", choices=list(THRESHOLDS), default=list(THRESHOLDS), help="(all)")
    add("--config", type=Path, metavar="FILE", help="of the detector, as JSON (aejax.Config())")
    add("--seed", type=int, default=0, help="of splits and networks (0)")
    add("--json", type=Path, metavar="FILE", help="keep all results")
    given = parser.parse_args(arguments)
    tables = protocol.tables(given.folder)
    if unknown := set(given.datasets or ()) - set(tables):
        raise SystemExit(f"--datasets {sorted(unknown)}; allowed: {', '.join(tables)}")
    chosen = {name: tables[name] for name in given.datasets or tables}
    config = aejax.Config()
    if given.config:
        config = aejax.config.read_config(given.config)
    settings = dataclasses.replace(config.train, seed=given.seed)
    config = dataclasses.replace(config, train=settings)
    results: dict[str, Any] = {"suite": "promises", "environment": machine.environment()}
    lines: list[dict[str, Any]] = []
    for line in measure(chosen, given.thresholds, config, given.seed):
        lines.append(line)
        report.keep({**results, "lines": lines, "summary": summarise(lines)}, given.json)
    print(as_table({**results, "lines": lines, "summary": summarise(lines)}))


if __name__ == "__main__":
    main()
