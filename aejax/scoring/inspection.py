"""Say what a folder holds: a run, a detector, or scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aejax import config as settings
from aejax.config import InputError, read_json
from aejax.scoring import manifest

RUN_BYTES = 16 << 20


def inspect_folder(folder: Path, *, shapes: bool = False) -> dict[str, Any]:
    """What made a folder and what is in it.

    Args:
        folder: of a run, a detector or scores.
        shapes: also the shape and type of every array.

    Raises:
        InputError: if it is none of these, or damaged.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    if (folder / manifest.NAME).is_file():
        return _scores(folder)
    home = folder / "detector" if (folder / "detector").is_dir() else folder
    if (home / "detector.json").is_file():
        return {"kind": "detector", **_run(folder), **_detector(home, shapes)}
    if (folder / "run.json").is_file():
        return {"kind": "unfinished run", **_run(folder)}
    raise InputError(f"{folder} holds no run, detector or scores")


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
        "summary": read_json(folder / manifest.SUMMARY, RUN_BYTES) if finished else None,
    }


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

    from aejax.detection.detector import load

    detector = load(home)
    schema = detector.schema.to_dict()
    leaves = jax.tree_util.tree_leaves_with_path(detector.variables)
    described = {
        "fingerprint": detector.fingerprint,
        "threshold": None if detector.threshold is None else detector.threshold.to_dict(),
        "schema": schema,
        "config": settings.to_dict(detector.config),
        "parameters": sum(leaf.size for _, leaf in leaves),
        "provenance": detector.provenance,
    }
    if shapes:
        described["arrays"] = {
            jax.tree_util.keystr(
                path, simple=True, separator="/"
            ): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in leaves
        }
    return described
