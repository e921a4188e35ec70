"""What a run's report was made of, kept in one file, and the report made anew with a threshold.

`report.npz` holds scores, labels and the rows that are drawn, so that a threshold that is set later
shows everywhere it is written, without the rows that the run was made of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError, read_json, rule_text
from aejax.config.durable import make_folder, write_file
from aejax.data.packed import pack
from aejax.data.places import Place
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.metrics import evaluate
from aejax.detection.promise import promise_of
from aejax.exporting.model_card import write_model_card
from aejax.reporting.markup import Markup
from aejax.reporting.report import (
    KEPT,
    MAX_BYTES,
    METRICS,
    Examples,
    Report,
    Words,
    write_metrics,
    write_report,
)
from aejax.reporting.sections import Section
from aejax.reporting.tuning_section import tuning_section

_PLAIN = (
    "title",
    "subtitle",
    "config",
    "history",
    "threshold",
    "metrics",
    "published",
    "measured",
    "seconds",
    "environment",
    "calibrate_command",
)


def keep_report(report: Report, folder: Path) -> None:
    """Write what `kept_report` reads, beside the report's page.

    Raises:
        InputError: if the disk doesn't take it.
    """
    described: dict[str, Any] = {name: getattr(report, name) for name in _PLAIN}
    described["schema"] = report.schema.to_dict()
    described["reasons"] = [[row, text] for row, text in report.reasons.items()]
    described["places"] = [[row, *place] for row, place in report.places.items()]
    described["figures"] = [[title, caption] for title, caption, _ in report.figures]
    arrays: dict[str, Any] = {"scores": np.asarray(report.scores)}
    if report.is_anomaly is not None:
        arrays["is_anomaly"] = np.asarray(report.is_anomaly, bool)
    for number, (_, _, drawn) in enumerate(report.figures):
        assert isinstance(drawn, bytes)
        arrays[f"figure/{number}"] = np.frombuffer(drawn, np.uint8)
    for end in ("most", "least"):
        examples: Examples | None = getattr(report, end)
        if examples is None:
            continue
        for field in dataclasses.fields(examples):
            value = getattr(examples, field.name)
            if field.name != "words" and value is not None:
                arrays[f"{end}/{field.name}"] = np.asarray(value)
        described[end] = examples.words
    section = report.tuning
    if section is not None and not isinstance(section, Section):
        section = tuning_section(section)
    if section is not None:
        described["tuning"] = [section.anchor, section.heading, section.content]
        for name, image in section.files.items():
            arrays[f"tuning/{name}"] = np.frombuffer(image, np.uint8)
    keep(described, arrays, folder)


def kept_report(folder: Path) -> Report:
    """The report that a run's folder keeps.

    Raises:
        InputError: if it keeps none, or a damaged one.
    """
    with kept(folder) as (described, arrays):
        report = Report(
            **{name: described[name] for name in _PLAIN},
            most=_examples("most", described.get("most"), arrays),
            least=_examples("least", described.get("least"), arrays),
            scores=arrays["scores"],
            is_anomaly=arrays.get("is_anomaly"),
            schema=Schema.from_dict(described["schema"]),
            reasons=dict(described["reasons"]),
            places={
                row: Place(file, at, tuple((name, value) for name, value in keys))
                for row, file, at, keys in described["places"]
            },
            figures=tuple(
                (title, caption, arrays[f"figure/{number}"].tobytes())
                for number, (title, caption) in enumerate(described["figures"])
            ),
            tuning=_tuning(described.get("tuning"), arrays),
        )
    return report


def keep(described: Mapping[str, Any], arrays: Mapping[str, Any], folder: Path) -> None:
    """Write what a report is made of, text as JSON and arrays, into a run's folder."""
    content = io.BytesIO()
    text = json.dumps(described, default=str).encode()
    pack(content, {**arrays, "described": np.frombuffer(text, np.uint8)})
    make_folder(folder)
    write_file(folder / KEPT, content.getvalue())


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What `keep` wrote, to make a report of it inside.

    Raises:
        InputError: if the folder keeps nothing, or something that no report can be made of.
    """
    path = folder / KEPT
    if not path.is_file():
        raise InputError(f"{folder} keeps no report ({KEPT} is missing); allowed: a run's folder")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        yield json.loads(arrays["described"].tobytes()), arrays
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is damaged ({error!r:.100}); allowed: what a run wrote") from None


def _examples(end: str, words: Any, arrays: dict[str, Any]) -> Examples | None:
    names = [field.name for field in dataclasses.fields(Examples) if field.name != "words"]
    if f"{end}/x" not in arrays:
        return None
    fields: dict[str, Any] = {name: arrays.get(f"{end}/{name}") for name in names}
    return Examples(**fields, words=None if words is None else Words(*words))


def _tuning(written: Any, arrays: dict[str, Any]) -> Section | None:
    if written is None:
        return None
    anchor, heading, content = written
    files = {
        name.removeprefix("tuning/"): image.tobytes()
        for name, image in arrays.items()
        if name.startswith("tuning/")
    }
    return Section(anchor=anchor, heading=heading, content=Markup(content), files=files)


def with_threshold(report: Report, detector: Detector) -> Report:
    """A report with the threshold that a detector has now, and what follows of it."""
    threshold = detector.threshold_value
    metrics: dict[str, Any] = {"rows": len(report.scores), "threshold": threshold}
    if report.is_anomaly is not None:
        metrics = evaluate(report.scores, report.is_anomaly, threshold)
    if "rows_are" in report.metrics:
        metrics = {"rows_are": report.metrics["rows_are"], **metrics}
    measured = report.measured
    if measured is not None and "threshold" in measured:
        measured = {**measured, "threshold": threshold}
    notes = []
    if report.published and threshold != report.threshold:
        notes.append(
            "Published and measured numbers are those of the run's own threshold, "
            f"{report.threshold:.6g}; the rest of this page shows the one in force."
        )
    if detector.threshold is not None:
        (one,) = detector.threshold.each
        notes.append(f"The threshold is by {rule_text(one.rule)}, on {one.rows:,} scores.")
    return dataclasses.replace(
        report,
        threshold=threshold,
        metrics=metrics,
        measured=measured,
        promise=promise_of(detector.threshold),
        alarms=tuple(detector.provenance.get("alarms", ())),
        notes=tuple(notes),
    )


def renew_report(detector: Detector, folder: Path, out: Path | None = None) -> Path:
    """Show the threshold that a run's detector has now: in its report, metrics and model card.

    Args:
        detector: of the run, of one network or an ensemble.
        folder: of the run.
        out: where the page is written alone; None renews everything that the run's folder has.

    Returns:
        Path of the page.

    Raises:
        InputError: if the folder keeps no report, or the disk doesn't take it.
    """
    report = with_threshold(kept_report(folder), detector)
    if out is not None:
        return write_report(report, out)
    page = write_report(report, folder)
    written = read_json(folder / METRICS, MAX_BYTES) if (folder / METRICS).is_file() else {}
    metrics = write_metrics(
        folder,
        written.get("published") or report.published,
        report.measured,
        report.metrics,
        report.seconds,
        report.environment,
    )
    write_model_card(detector, metrics, folder, renew=True)
    return page
