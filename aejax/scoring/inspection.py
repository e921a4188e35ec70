"""Say what a folder holds, a run, a detector, an export or scores, and what made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aejax import config as settings
from aejax.config import InputError, read_json
from aejax.config.durable import refused_as_input, written_aside
from aejax.detection.artifact import EXPORT, is_export, read_description
from aejax.scoring import manifest

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

RUN_BYTES = 16 << 20
SKIPPED_SHOWN = 10


def inspect_folder(folder: Path, *, shapes: bool = False) -> dict[str, Any]:
    """What made a folder and what is in it.

    Args:
        folder: of a run, a detector, an export or scores.
        shapes: also the shape and type of every array.

    Raises:
        InputError: if it is none of these, or damaged.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    if (folder / manifest.NAME).is_file():
        return _scores(folder)
    if is_export(folder):
        about = read_description(folder)[EXPORT]
        files = {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}
        described = {**_run(folder), **_detector(folder, shapes)}
        return {"kind": "export", **described, "export": about, "files": files}
    home = folder / "detector" if (folder / "detector").is_dir() else folder
    if (home / "detector.json").is_file():
        return {"kind": "detector", **_run(folder), **_detector(home, shapes)}
    if (folder / "run.json").is_file():
        return {"kind": "unfinished run", **_run(folder)}
    raise InputError(f"{folder} holds no run, detector, export or scores")


def _scores(folder: Path) -> dict[str, Any]:
    written = manifest.read_description(folder)
    finished = (folder / manifest.SUCCESS).is_file()
    return {
        "kind": "scores",
        "finished": finished,
        "parts": len(written["parts"]),
        "rows": sum(part["rows"] for part in written["parts"]),
        "files": sum(len(segment["files"]) for segment in written["segments"]),
        "identity": written["identity"],
        # Scores written before there was this file say what made them by fingerprint only.
        "model": read_json(folder / manifest.MODEL, RUN_BYTES)
        if (folder / manifest.MODEL).is_file()
        else None,
        "summary": read_json(folder / manifest.SUMMARY, RUN_BYTES) if finished else None,
    }


def write_model(scorer: Detector, folder: Path) -> None:
    """Write into a scores folder what made the scores.

    Args:
        scorer: a detector.
        folder: of the scores.

    Raises:
        InputError: if the disk doesn't take it.
    """
    from importlib.metadata import version

    from aejax import __version__

    described = {
        "fingerprint": scorer.fingerprint,
        "config": settings.to_dict(scorer.config),
        "threshold": None if scorer.threshold is None else scorer.threshold.to_dict(),
        "provenance": scorer.provenance,
        **({} if (series := scorer.schema.series) is None else {"series": series.to_dict()}),
        "scored_with": {"aejax": __version__, "jax": version("jax")},
    }
    content = json.dumps(described, indent=2).encode() + b"\n"
    path = folder / manifest.MODEL
    if path.is_file() and path.read_bytes() == content:
        return
    with refused_as_input(path, manifest.CONTINUES), written_aside(path) as file:
        file.write(content)


def _run(folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if (folder / "run.json").is_file():
        described["data"] = read_json(folder / "run.json", RUN_BYTES).get("data")
        history = folder / "history.jsonl"
        described["epochs_done"] = len(history.read_text().splitlines()) if history.is_file() else 0
    if (folder / "metrics.json").is_file():
        metrics = read_json(folder / "metrics.json", RUN_BYTES)
        described |= {name: metrics.get(name) for name in ("published", "measured")}
    return described


def _detector(home: Path, shapes: bool) -> dict[str, Any]:
    import jax

    from aejax.detection.loading import load

    detector = load(home)
    if detector.groups is not None:
        return _groups(detector, shapes)
    schema = detector.schema.to_dict()
    leaves = jax.tree.leaves(detector.variables)
    described = {
        "fingerprint": detector.fingerprint,
        "threshold": None if detector.threshold is None else detector.threshold.to_dict(),
        "thresholds": {name: kept.to_dict() for name, kept in detector.thresholds.items()},
        "seed": detector.provenance.get("seeds", detector.config.train.seed),
        "schema": schema,
        "config": settings.to_dict(detector.config),
        "parameters": sum(leaf.size for leaf in leaves),
        "provenance": detector.provenance,
    }
    return described | (_arrays(detector) if shapes else {})


def _arrays(detector: Detector) -> dict[str, Any]:
    """The shape and type of every array, by the path of its names."""
    from jax.tree_util import keystr, tree_leaves_with_path

    return {
        "arrays": {
            keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in tree_leaves_with_path(detector.variables)
        }
    }


def _groups(detector: Detector, shapes: bool) -> dict[str, Any]:
    from collections import Counter

    import jax
    import numpy as np

    from aejax.detection.promise import limits_of
    from aejax.exporting.group_card import spread_of

    groups, thresholds = detector.grouped
    leaves = jax.tree.leaves(detector.variables["params"])
    kinds = Counter(alarm.kind for group in groups.each for alarm in group.alarms)
    rows = np.array([group.rows for group in groups.each], np.float64)
    described = {
        "kind": "detectors of groups",
        "epochs_done": detector.history[-1]["epoch"] if detector.history else None,
        "fingerprint": detector.fingerprint,
        "groups": len(groups),
        "group_column": groups.column,
        "rows": sum(group.rows for group in groups.each),
        "rows_of_a_group": spread_of(rows),
        "thresholds": spread_of(thresholds.values),
        "alarms": dict(sorted(kinds.items())),
        "limits": limits_of(detector),
        "skipped_groups": len(groups.skipped),
        "skipped": dict(list(groups.skipped.items())[:SKIPPED_SHOWN]),
        "parameters_of_a_group": sum(leaf.size for leaf in leaves) // len(groups),
        "schema": detector.schema.to_dict(),
        "config": settings.to_dict(detector.config),
        "provenance": detector.provenance,
    }
    return described | (_arrays(detector) if shapes else {})
