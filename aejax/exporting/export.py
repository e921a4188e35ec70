"""From a detector to a folder that scores without this package, checked before it gets its name.

The folder is the detector's own artifact (`detection/artifact.py`), whose description has
"export" besides: formats, sizes of batches, parity, versions. Next to it lie

    scorer.py       scores with these files, JAX and NumPy; never run from there by this package
    model.onnx      the same scores as an ONNX graph, parameters and threshold inside
    metrics.json    what was measured of the run that it comes from
    MODEL_CARD.md   what a person should know; it may be edited
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import runpy
import shutil
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from aejax import __version__
from aejax.config import InputError, read_json
from aejax.config.durable import exchange, sync_folder, write_file, written_aside
from aejax.core import programs
from aejax.detection import artifact
from aejax.detection.artifact import is_export
from aejax.detection.detector import Detector
from aejax.detection.loading import as_detector, load
from aejax.detection.own_network import SCORING
from aejax.detection.placed import batch_sizes
from aejax.exporting import parity
from aejax.exporting.group_card import write_group_card
from aejax.exporting.model_card import write_model_card
from aejax.models.backend import default_settings

Format = Literal["stablehlo", "onnx"]
SCORER, ONNX, METRICS = "scorer.py", "model.onnx", "metrics.json"
METRICS_BYTES = 16 << 20
# Groups whose scores are checked on all edges.
MOST_CHECKED = 8
_TEMPLATE = Path(__file__).with_name("scorer.py.template")


@contextlib.contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill that takes its name only when the block ends well, and else is gone.

    Args:
        out: its name.
        overwrite: replace an export that has it; nothing else is ever replaced.

    Raises:
        InputError: if the name is taken, or the disk doesn't take the files.
    """
    old = out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir())))
    if old and (out.is_symlink() or not is_export(out)):
        raise InputError(f"{out} is there and holds no export; allowed: a new or an empty folder")
    if old and not overwrite:
        raise InputError(f"{out} already holds an export; allowed: --overwrite to replace it")
    aside = out.parent / f".{out.name}-{uuid.uuid4().hex}.writing"
    try:
        aside.mkdir(parents=True)
        yield aside
        sync_folder(aside)
        if old:
            if not exchange(aside, out):
                _replace_in_two_steps(aside, out)
        else:
            aside.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace_in_two_steps(aside: Path, out: Path) -> None:
    """What stops between the two leaves the old export under its other name."""
    before = aside.with_suffix(".replaced")
    out.rename(before)
    try:
        aside.rename(out)
    except OSError:
        before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def export(
    detector: object,
    folder: str | Path,
    *,
    formats: Format | Sequence[Format] = "stablehlo",
    metrics: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a folder that scores on its own, once its scores are seen to be the detector's.

    Of a detector of groups, all of them: each row names its group there, too. `aejax.load` opens
    the folder as the detector that it is. "stablehlo" adds the program of the scores and
    `scorer.py`, which needs jax alone, anywhere that JAX runs; "onnx" adds `model.onnx` for ONNX
    runtimes, with the threshold inside (of one detector only).

    Args:
        detector: what to export, with its thresholds: a detector, a fitted estimator, or the
            folder of a run or of a detector.
        folder: of the export.
        formats: one or both.
        metrics: what the run's `metrics.json` holds, to travel along; of a folder None takes its.
        overwrite: replace an export that is there.

    Returns:
        JSON-ready: where the export is, how near its scores are, and the sizes of its files.

    Raises:
        InputError: if the folder is taken, the detector can't be exported, or a score differs by
            more than 1e-6 (ONNX 1e-5) and rounding explains: then nothing is left of the export.

    Example:
        >>> aejax.export(detector, "exports/pumps")["parity"]["loaded"]  # doctest: +SKIP
        0.0
    """
    wanted = (formats,) if isinstance(formats, str) else tuple(formats)
    allowed = typing.get_args(Format)
    if not wanted or not set(wanted) <= set(allowed):
        raise InputError(f"formats is {formats!r}; allowed: one or more of {', '.join(allowed)}")
    if isinstance(detector, (str, os.PathLike)) and metrics is None:
        metrics = read_metrics(Path(detector))
    detector = as_detector(detector)
    if detector.groups is not None and "onnx" in wanted:
        raise InputError(
            f"formats holds 'onnx' and the detector has {len(detector.groups)} groups; allowed: "
            "'stablehlo', or one group, as detector.member(NAME) or --group NAME"
        )
    out = Path(folder)
    with new_folder(out, overwrite=overwrite) as aside:
        parity = _write(detector, aside, wanted)
        if metrics is not None:
            write_file(aside / METRICS, json.dumps(metrics, indent=2) + "\n")
        write_card = write_model_card if detector.groups is None else write_group_card
        write_card(detector, metrics, aside)
        files = {entry.name: entry.stat().st_size for entry in sorted(aside.iterdir())}
    return {"export": str(out), "parity": parity, "files": files}


def read_metrics(run: Path) -> dict[str, Any] | None:
    """What a run's `metrics.json` holds; None where there is none. Also found from its detector."""
    for home in (run, run.parent if run.name == "detector" else run):
        if (home / METRICS).is_file():
            return read_json(home / METRICS, METRICS_BYTES)
    return None


def _write(detector: Detector, aside: Path, formats: tuple[Format, ...]) -> dict[str, Any]:
    """Write all but the card; returns how near the scores are."""
    described, arrays = detector.to_parts()
    about: dict[str, Any] = {
        "formats": sorted(formats),
        "fingerprint": detector.fingerprint,
        "exported_with": {
            "aejax": __version__,
            "jax": jax.__version__,
            "jaxlib": version("jaxlib"),
            "python": platform.python_version(),
        },
    }
    if "stablehlo" in formats:
        content = np.frombuffer(_lowered(detector), np.uint8)
        arrays["programs"] = {**arrays.get("programs", {}), SCORING: content}
        about["platforms"] = list(programs.PLATFORMS)
        about["batch_sizes"] = batch_sizes(detector.schema, detector.config)
        write_file(aside / SCORER, _TEMPLATE.read_text(encoding="utf-8"))
    # Written twice: what is checked is what was read back, and its result belongs to it.
    artifact.write(aside, {**described, artifact.EXPORT: about}, arrays)
    loaded = load(aside)
    # Not the file in the folder: no code from there is ever run.
    scorer = runpy.run_path(str(_TEMPLATE))["Scorer"](aside) if "stablehlo" in formats else None
    about["parity"] = {"rows": 0}
    for name in _checked(detector):
        one = detector if name is None else detector.member(name)
        edges = parity.edges(one)
        largest = {"loaded": _loaded(edges, loaded if name is None else loaded.member(name))}
        if scorer is not None:
            with default_settings():
                largest["scorer"] = edges.compare("scorer.py", _of_group(scorer, name))
        about["parity"]["rows"] += len(edges.rows)
        for what, difference in largest.items():
            about["parity"][what] = max(difference, about["parity"].get(what, 0.0))
    if "onnx" in formats:
        from aejax.exporting.onnx_model import checked_model

        onnx, about["parity"]["onnx"], about["onnx"] = checked_model(detector, edges)
        with written_aside(aside / ONNX) as file:
            file.write(onnx)
    artifact.write(aside, {**described, artifact.EXPORT: about}, arrays)
    differences: dict[str, Any] = about["parity"]
    return differences


def _checked(detector: Detector) -> list[str | None]:
    """Names of the groups whose scores are checked, evenly spread; [None] where there are none.

    All have one program; what is their own is arrays, whose digest `load` checks.
    """
    if detector.groups is None:
        return [None]
    names = detector.groups.names
    at = np.linspace(0, len(names) - 1, min(len(names), MOST_CHECKED)).astype(int)
    return [names[number] for number in at]


def _of_group(scorer: Any, name: str | None) -> Callable[[np.ndarray], np.ndarray]:
    return scorer if name is None else lambda rows: scorer(rows, [name] * len(rows))


def _lowered(detector: Detector) -> bytes:
    schema = detector.schema
    if detector.groups is not None:
        detector = detector.member(detector.groups.names[0])
    try:
        return programs.lower_score(
            detector.scoring,
            detector.scaler,
            detector.variables,
            schema.shape,
            schema.device_dtype,
        )
    except InputError:
        raise
    except Exception as error:  # What JAX can't export has no common type.
        reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
        raise InputError(
            f"the detector can't be exported ({reason}); allowed: parts that JAX traces for any "
            "number of rows"
        ) from None


def _loaded(edges: parity.Edges, loaded: Detector) -> float:
    """How far scores of the export, opened by this package, are from the detector's."""
    scores = loaded.score_rows(edges.rows, batch_size=parity.BATCH_SIZE)
    scores[np.isnan(edges.scores)] = np.nan
    return parity.check("the export", edges.scores, scores, edges.names)
