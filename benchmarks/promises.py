"""Whether thresholds keep their promise: flags that were promised and flags on rows held out.

    python -m benchmarks.promises --folder DIR [--thresholds held-out auto] [--json FILE]

Half of a table's normal rows train, the other half is what is flagged. "held-out" is a quantile of
the scores of rows held out; "auto" is `Config.calibration` "auto" with the rule `FalseAlarms`,
which cross-fits where rows are few; "conformal" is that rule's guarantee, by rows held out.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

import aejax
from benchmarks import machine, options, report
from benchmarks.detectors import protocol

RATES = (0.01, 0.05)
# So many flags are expected of a table that can tell whether a promise is kept.
TELLING = 5
MOST_TRAIN, MOST_TEST = 10_000, 20_000


def held_out(config: aejax.Config, rate: float) -> aejax.Config:
    """A quantile of the scores of rows held out."""
    return dataclasses.replace(config, calibration="held-out", rule=aejax.Quantile(q=1 - rate))


def auto(config: aejax.Config, rate: float) -> aejax.Config:
    """A promise of false alarms by all rows where they are few, else by rows held out."""
    return dataclasses.replace(config, calibration="auto", rule=aejax.FalseAlarms(rate=rate))


def conformal(config: aejax.Config, rate: float) -> aejax.Config:
    """A guarantee by rows held out; none where they are too few for it."""
    return dataclasses.replace(config, calibration="held-out", rule=aejax.Conformal(alpha=rate))


THRESHOLDS: dict[str, Callable[[aejax.Config, float], aejax.Config]] = {
    "held-out": held_out,
    "auto": auto,
    "conformal": conformal,
}


def measure(
    tables: dict[str, Path],
    names: Sequence[str],
    config: aejax.Config,
    seed: int,
    most_train: int = MOST_TRAIN,
) -> Iterator[dict[str, Any]]:
    """One line a table, threshold and rate."""
    for table, path in tables.items():
        jax.clear_caches()
        split = protocol.split(
            protocol.read(table, path), "normals", seed, most_train=most_train, most_test=MOST_TEST
        )
        normal = split.test[~split.is_anomaly]
        for name in names:
            for rate in RATES:
                try:
                    fitted = aejax.fit(THRESHOLDS[name](config, rate), split.train)
                except aejax.InputError as error:
                    options.say(f"{table} {name}: {error}")
                    continue
                flags = np.asarray(fitted.predict(normal))
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
    add(
        "--thresholds",
        nargs="+",
        choices=list(THRESHOLDS),
        default=["held-out", "auto"],
        help="(held-out auto)",
    )
    add("--config", type=Path, metavar="FILE", help="of the detector, as JSON (aejax.Config())")
    add("--most-train", type=int, default=MOST_TRAIN, metavar="N", help=f"rows ({MOST_TRAIN:,})")
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
    for line in measure(chosen, given.thresholds, config, given.seed, given.most_train):
        lines.append(line)
        report.keep({**results, "lines": lines, "summary": summarise(lines)}, given.json)
    print(as_table({**results, "lines": lines, "summary": summarise(lines)}))


if __name__ == "__main__":
    main()
