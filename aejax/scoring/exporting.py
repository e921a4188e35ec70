"""From a run to a folder that scores without this package, checked before it gets its name."""

from __future__ import annotations

import io
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from aejax import __version__
from aejax import config as settings
from aejax.config import InputError, read_json
from aejax.core import programs
from aejax.data.packed import pack
from aejax.detection.batch_sizes import default_batch_size
from aejax.detection.detector import Detector
from aejax.detection.loading import load
from aejax.models.backend import default_settings
from aejax.scoring import export_folder, parity
from aejax.scoring.exported import ExportedScorer, load_export
from aejax.scoring.model_card import write_model_card

# Naming one takes a pass over the model, whether or not it is asked for later.
TOP_FEATURES = 5
METRICS_BYTES = 16 << 20
_TEMPLATE = Path(__file__).with_name("scorer.py.template")

Format = Literal["stablehlo", "onnx"]


def export_run(
    run: Path,
    out: Path,
    *,
    format: Format = "stablehlo",
    top_features: int = TOP_FEATURES,
    overwrite: bool = False,
    group: str | None = None,
) -> dict[str, Any]:
    """Export the detector of a run, with the run's metrics.

    Args:
        run: folder of a run or a detector.
        out: folder of the export.
        format: "stablehlo" or "onnx".
        top_features: as in `export_detector`.
        overwrite: replace an export that is there.
        group: of detectors of groups, whose to export, by itself and without metrics.

    Returns:
        JSON-ready: where the export is, its files, and how near its scores are.

    Raises:
        InputError: as in `export_detector`, or if there is no detector.
    """
    if export_folder.is_export(run):
        raise InputError(f"{run} is an export already; allowed: a run or a detector")
    detector = load(run)
    if (group is None) != (detector.groups is None):
        found = "is a detector of groups" if group is None else "has no groups"
        allowed = "one of them, by --group NAME" if group is None else "no --group"
        raise InputError(f"{run} {found}; allowed: {allowed}")
    return export_detector(
        detector if group is None else detector.member(group),
        out,
        format=format,
        # What was measured of all groups says nothing of one.
        metrics=read_metrics(run) if group is None else None,
        top_features=top_features,
        overwrite=overwrite,
    )


def read_metrics(run: Path) -> dict[str, Any] | None:
    """What a run's `metrics.json` holds; None where there is none. Also found from its detector."""
    for home in (run, run.parent if run.name == "detector" else run):
        if (home / "metrics.json").is_file():
            return read_json(home / "metrics.json", METRICS_BYTES)
    return None


def export_detector(
    detector: Detector,
    out: str | Path,
    *,
    format: Format = "stablehlo",
    metrics: Mapping[str, Any] | None = None,
    top_features: int = TOP_FEATURES,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a self-contained scorer, whose scores are checked against the detector's first.

    "stablehlo" compiles anywhere that JAX runs and gives the detector's scores to the last
    bits; "onnx" runs in ONNX runtimes, with the threshold inside, to 1e-5.

    Args:
        detector: what to export, with its thresholds.
        out: folder of the export.
        format: "stablehlo" or "onnx".
        metrics: what `metrics.json` of the run holds, to travel along.
        top_features: most features that a StableHLO export can name for a row; 0 for none.
        overwrite: replace an export that is there.

    Raises:
        InputError: if the folder is taken, the model can't be exported, or a score differs:
            then nothing is left of the export.

    Example:
        >>> export_detector(detector, "scorer")["parity"]["same_batches"]  # doctest: +SKIP
        0.0
    """
    out = Path(out)
    if top_features < 0:
        raise InputError(f"top_features is {top_features}; allowed: at least 0")
    with export_folder.new_folder(out, overwrite=overwrite) as aside:
        if format == "onnx":
            from aejax.scoring.onnx_export import write_onnx

            described = write_onnx(detector, aside, describe(detector, metrics))
        else:
            described = _write_stablehlo(detector, aside, metrics, top_features)
        write_model_card(detector, metrics, aside)
        files = {entry.name: entry.stat().st_size for entry in sorted(aside.iterdir())}
    return {"export": str(out), "parity": described["parity"], "files": files}


def describe(detector: Detector, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """What any export says of its detector; JSON-ready."""
    return {
        "detector": detector.fingerprint,
        "schema": detector.schema.to_dict(),
        "config": settings.to_dict(detector.config),
        "combine": detector.combine,
        "members": detector.members,
        "threshold": None if detector.threshold is None else detector.threshold.to_dict(),
        "thresholds": {name: kept.to_dict() for name, kept in detector.thresholds.items()},
        "provenance": detector.provenance,
        "metrics": None if metrics is None else dict(metrics),
        "exported_with": {
            "aejax": __version__,
            "jax": jax.__version__,
            "jaxlib": version("jaxlib"),
            "python": platform.python_version(),
        },
    }


def _write_stablehlo(
    detector: Detector, aside: Path, metrics: Mapping[str, Any] | None, top_features: int
) -> dict[str, Any]:
    scorer, schema = detector.scorer, detector.schema
    top = min(top_features, schema.features) if scorer.reconstructs else 0
    how = (scorer, detector.scaler, detector.variables, schema.shape, schema.device_dtype)
    arrays = io.BytesIO()
    pack(arrays, jax.device_get(programs.arrays_of(detector.scaler, detector.variables)))
    files = {
        export_folder.SCORE: programs.lower_score(*how),
        export_folder.ARRAYS: arrays.getvalue(),
        export_folder.LOADER: _TEMPLATE.read_bytes(),
    }
    if top:
        files[export_folder.EXPLAIN] = programs.lower_score(*how, top=top)
    described = {
        "kind": "stablehlo",
        **describe(detector, metrics),
        "platforms": list(programs.PLATFORMS),
        "top_features": top,
        "batch_size": default_batch_size(schema, detector.config),
    }
    # Written twice: what is checked is what was read back, and its result belongs to it.
    export_folder.write(aside, described, files)
    described["parity"] = check_parity(detector, load_export(aside))
    export_folder.write(aside, described, files)
    return described


def check_parity(detector: Detector, exported: ExportedScorer) -> dict[str, Any]:
    """Compare an export with its detector.

    Returns:
        Largest relative differences: "same_batches" compiled as the detector is,
        "without_options" as any user of JAX would compile it; and "explained", of features'
        errors.

    Raises:
        InputError: at the first score that differs by more than 1e-6 and, without options,
            by more than rounding explains.
    """
    rows, names = parity.edge_rows(detector)
    size, few = parity.BATCH_SIZE, np.r_[0:3, len(rows) - 11 : len(rows)]
    live = detector.score_rows(rows, batch_size=size)
    same = parity.check("the export", live, exported.score_rows(rows, batch_size=size), names)
    one = parity.check(
        "the export, row by row,",
        detector.score_rows(rows[few], batch_size=1),
        exported.score_rows(rows[few], batch_size=1),
        [names[row] for row in few],
    )
    # As scorer.py compiles it, but for the name of the function: called without options.
    call = exported.programs["score"].call
    padded = np.concatenate([rows, np.zeros((-len(rows) % size, *rows.shape[1:]), rows.dtype)])
    batches = np.split(padded, len(padded) // size)
    with default_settings():
        plain = [jax.device_get(call(*jax.device_put((exported.arrays, x)))) for x in batches]
    bare = parity.check(
        "the export without compiler options",
        live,
        np.concatenate(plain)[: len(rows)],
        names,
        slack=parity.rounding(detector, rows, live),
    )
    found = {"rows": len(rows), "same_batches": max(same, one), "without_options": bare}
    if exported.top_features:
        found["explained"] = _check_explained(detector, exported, rows, names)
    return found


def _check_explained(
    detector: Detector, exported: ExportedScorer, rows: np.ndarray, names: list[str]
) -> float:
    how: Any = {"top": exported.top_features, "batch_size": parity.BATCH_SIZE}
    live, found = detector.explain_rows(rows, **how), exported.explain_rows(rows, **how)
    numbers = np.isfinite(live[2]).all(axis=1)
    if (live[1] != found[1])[numbers].any():
        row = int(np.flatnonzero((live[1] != found[1]).any(axis=1) & numbers)[0])
        raise InputError(
            f"the export names other features than the detector for row {row} ({names[row]}). "
            "Nothing was exported"
        )
    repeated = [name for name in names for _ in range(exported.top_features)]
    scores = parity.check("the export, explaining,", live[0], found[0], names)
    return max(scores, parity.check("the export", live[2].ravel(), found[2].ravel(), repeated))
