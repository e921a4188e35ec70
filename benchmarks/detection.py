"""How well detectors find labelled anomalies: aejax, PyOD and two controls, on the same rows.

    python -m benchmarks.detection --data adbench --json FILE [--folder DIR] [--protocol normals]
    python -m benchmarks.detection --data ecg5000 --json FILE

One fixed configuration a detector for all sets, no label seen in training, and the same scaled
rows for all. With `--json` every run of a detector is appended to a file of lines beside it
as soon as it ends, so the same command continues. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import jax

from aejax.detection.metrics import evaluate
from benchmarks import detection_ecg, detection_report, machine, options, report
from benchmarks.detectors import ENTRIES, Detect, protocol
from benchmarks.detectors.protocol import Protocol

MOST_TRAIN, MOST_TEST = 10_000, 20_000
QUICK_TRAIN, QUICK_TEST = 500, 1000
KEY = ("set", "protocol", "seed", "detector", "limits")


def read_lines(path: Path | None) -> list[dict[str, Any]]:
    """The runs that a file of lines holds; a line cut off by a stop is left out."""
    if path is None or not path.exists():
        return []
    runs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            options.say(f"{path.name}: left out a line that is not whole")
    return runs


def append_line(path: Path | None, run: dict[str, Any]) -> None:
    """Add one run, on a line of its own even where the last one was cut off."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(run).encode() + b"\n")


def run_key(run: dict[str, Any]) -> str:
    """What makes two runs the same measurement."""
    return json.dumps([run[name] for name in KEY], sort_keys=True)


def load(names: Iterable[str]) -> tuple[dict[str, Detect], dict[str, str]]:
    """The detectors whose libraries are there, and why the others are missing."""
    found: dict[str, Detect] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = ENTRIES[name].load()
        except ImportError as error:
            missing[name] = f"{type(error).__name__}: {error}"
            options.say(f"{name}: missing ({error})")
    return found, missing


def runs_of_table(
    path: Path,
    name: str,
    detectors: dict[str, Detect],
    *,
    protocols: Sequence[Protocol],
    seeds: int,
    limits: dict[str, Any],
    done: set[str],
) -> Iterator[dict[str, Any]]:
    """Every run on one table that isn't done yet: protocol by protocol, seed by seed."""
    left: list[tuple[Protocol, int, str]] = [
        (way, seed, detector)
        for way, seed, detector in itertools.product(protocols, range(seeds), detectors)
        if run_key(_asked(name, way, seed, detector, limits)) not in done
    ]
    if not left:
        return
    table = protocol.read(name, path)
    if limits["distinct"]:
        table = protocol.distinct(table)
    # Rows of other widths need other programs, and those of the last table only take memory.
    jax.clear_caches()
    seen: set[tuple[str, str]] = set()
    for (way, seed), group in itertools.groupby(left, key=lambda asked: asked[:2]):
        split = protocol.split(
            table, way, seed, most_train=limits["most_train"], most_test=limits["most_test"]
        )
        # Rows are scaled here, so that it is in nobody's time.
        facts = {
            "features": int(split.scaled[0].shape[1]),
            "train_rows": len(split.train),
            "test_rows": len(split.test),
            "anomalies": int(split.is_anomaly.sum()),
            "repeated": split.repeated,
        }
        for _, _, detector in group:
            first = (way, detector) not in seen
            seen.add((way, detector))
            yield {
                **_asked(name, way, seed, detector, limits),
                **facts,
                "first": first,
                **_run(detectors[detector], split, seed, limits["quick"]),
            }


def _asked(name: str, way: str, seed: int, detector: str, limits: dict[str, Any]) -> dict[str, Any]:
    return {"set": name, "protocol": way, "seed": seed, "detector": detector, "limits": limits}


def _run(detect: Detect, split: protocol.Split, seed: int, quick: bool) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        scored = detect(split, seed, quick)
        seconds = time.perf_counter() - started + scored.seconds_before
        found = evaluate(scored.scores, split.is_anomaly, None, bootstrap=0)
    except Exception as error:  # A peer may fail in any way; the others still have their turn.
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    return {
        "status": "ready",
        "seconds": seconds,
        "auroc": found["auroc"]["value"],
        "average_precision": found["average_precision"]["value"],
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run what is asked for and not done yet, and gather all runs of these limits."""
    folder = given.folder or data_folder() / "adbench"
    tables = protocol.tables(folder)
    chosen = given.datasets or list(tables)
    if unknown := set(chosen) - set(tables):
        raise SystemExit(f"--datasets {sorted(unknown)}; allowed: {', '.join(tables)}")
    both: tuple[Protocol, ...] = ("normals", "all")
    protocols = both if given.protocol == "both" else (given.protocol,)
    limits = {
        "most_train": QUICK_TRAIN if given.quick else MOST_TRAIN,
        "most_test": QUICK_TEST if given.quick else MOST_TEST,
        "quick": given.quick,
        "distinct": given.distinct,
    }
    lines = given.json and given.json.with_suffix(".jsonl")
    runs = {run_key(run): run for run in read_lines(lines)}
    done = {key for key, run in runs.items() if run["status"] == "ready"}
    detectors, missing = ({}, {}) if given.gather else load(given.detectors)
    environment = machine.environment()
    for name in chosen:
        for run in runs_of_table(
            tables[name],
            name,
            detectors,
            protocols=protocols,
            seeds=given.seeds,
            limits=limits,
            done=done,
        ):
            append_line(lines, run)
            runs[run_key(run)] = run
            shown = f"{run['auroc']:.4f}" if run["status"] == "ready" else run["reason"]
            options.say(
                f"{name} {run['protocol']} seed {run['seed']} {run['detector']}: {shown} "
                f"({run.get('seconds', 0):.1f} s)"
            )
    kept = [
        run
        for run in runs.values()
        if run["limits"] == limits
        and run["set"] in chosen
        and run["protocol"] in protocols
        and run["detector"] in given.detectors
        and run["seed"] < given.seeds
    ]
    return {
        "suite": "detection",
        "data": "adbench",
        "environment": environment,
        "limits": limits,
        "sets": chosen,
        "missing": missing,
        "summary": {way: detection_report.summarise(kept, chosen, way) for way in protocols},
        "runs": kept,
    }


def data_folder() -> Path:
    """The folder that AEJAX_DATA_DIR names.

    Raises:
        SystemExit: if it names none.
    """
    named = os.environ.get("AEJAX_DATA_DIR")
    if not named:
        raise SystemExit("AEJAX_DATA_DIR is not set; allowed: a folder with adbench/ and ecg5000/")
    return Path(named)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description="How well anomalies are found."
    )
    add = parser.add_argument
    add("--data", choices=["adbench", "ecg5000"], default="adbench", help="what on (adbench)")
    add("--folder", type=Path, help="of npz files with X and y ($AEJAX_DATA_DIR/adbench)")
    add("--protocol", choices=[*get_args(Protocol), "both"], default="normals", help="(normals)")
    add("--seeds", type=options.count, default=5, help="splits, and runs of each detector (5)")
    add("--detectors", nargs="+", choices=list(ENTRIES), default=list(ENTRIES), help="(all)")
    add("--datasets", nargs="+", help="names of sets (all of the folder)")
    add("--distinct", action="store_true", help="drop repeated rows of a set before the split")
    add("--quick", action="store_true", help="few rows and steps, to see that it runs")
    add("--gather", action="store_true", help="run nothing: tables of the runs kept beside --json")
    add("--json", type=Path, metavar="FILE", help="keep all results, and continue from them")
    add("--plot", type=Path, metavar="FILE", help="draw the means as a PNG")
    given = parser.parse_args(arguments)
    if given.data == "ecg5000":
        results = detection_ecg.measure(
            data_folder() / "ecg5000" / "ecg.csv", seeds=given.seeds, quick=given.quick
        )
        results["environment"] = machine.environment()
        shown = detection_ecg.as_table(results)
    else:
        results = measure(given)
        shown = detection_report.as_table(results)
    report.keep(results, given.json)
    print(shown)
    if given.plot and given.data == "adbench":
        detection_report.plot(results, given.plot)


if __name__ == "__main__":
    main()
