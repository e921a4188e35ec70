"""A model card: what a person should know before a detector decides anything.

In the order of Mitchell et al., "Model cards for model reporting" (2019, arXiv:1810.03993):
use, data, settings, quality, thresholds, limits. Only what is known is said; what isn't is
said to be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from aejax import config as settings
from aejax.config import score_text
from aejax.config.durable import write_file
from aejax.config.own import shown
from aejax.config.scores import is_built_in
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.promise import promise_of

CARD = "MODEL_CARD.md"
MOST_NAMES = 50
# Sections that another threshold changes.
RENEWED = ("## Measured quality", "## Thresholds", "## Limits")


def write_model_card(
    detector: Detector, metrics: Mapping[str, Any] | None, folder: Path, *, renew: bool = False
) -> Path:
    """Write `MODEL_CARD.md`.

    Args:
        detector: trained, with its thresholds.
        metrics: what the run's `metrics.json` holds, or None.
        folder: that exists.
        renew: change only what another threshold changes in a card that is there: a person may
            have written into it.

    Returns:
        Path of the file.
    """
    return write_card(model_card(detector, metrics), folder, renew=renew)


def write_card(text: str, folder: Path, *, renew: bool) -> Path:
    """Write a card's text, or what it says of thresholds into the card that is there."""
    path = folder / CARD
    if renew and path.is_file():
        text = renewed(path.read_text(encoding="utf-8", errors="backslashreplace"), text)
    write_file(path, text)
    return path


def model_card(detector: Detector, metrics: Mapping[str, Any] | None = None) -> str:
    """The card as Markdown.

    Example:
        >>> print(model_card(detector).splitlines()[0])  # doctest: +SKIP
        # Model card: a dense autoencoder of 6 features
    """
    blocks = [
        f"# Model card: {_what(detector)}",
        _intended_use(detector),
        training_data(detector.schema, detector.provenance),
        settings_section(detector),
        _quality(detector, metrics or {}),
        _thresholds(detector),
        _limits(detector, metrics or {}),
        made_by(detector, metrics or {}),
    ]
    return "\n\n".join(blocks) + "\n"


def renewed(card: str, by: str) -> str:
    """A card with what another one says of quality, thresholds and limits; the rest as it was."""
    parts = re.split(r"^(?=## )", card, flags=re.MULTILINE)
    new = {_heading(part): part for part in re.split(r"^(?=## )", by, flags=re.MULTILINE)}
    kept = [new.get(name, part) if (name := _heading(part)) in RENEWED else part for part in parts]
    return "".join(kept)


def _heading(part: str) -> str:
    return part.partition("\n")[0]


def _what(detector: Detector) -> str:
    kind = settings.to_dict(detector.config.model)["kind_name"]
    one = {"dense": "dense autoencoder", "conv": "convolutional autoencoder"}.get(
        kind, f"{kind.replace('-', ' ')} model"
    )
    many = "" if detector.combine is None else f"an ensemble of {detector.members} times "
    return f"{many}a {one} of {counted(detector.schema.features, 'feature')}"


def score_in_words(score: object, *, model: str, rows: str) -> str:
    """What rows are scored by, in words.

    Args:
        score: an object that is an `aejax.config.Score`.
        model: that scores, in words.
        rows: that it was trained on, in words.
    """
    words = getattr(score, "words", None)
    if isinstance(words, str):
        return words.format(model=model, rows=rows)
    text = score_text(score)
    return f"its {text.replace('-', ' ') if is_built_in(score) else text} under {model}"


def _intended_use(detector: Detector) -> str:
    schema = detector.schema
    rows = {"table": "rows of a table", "series": "windows of a series", "image": "images"}
    error = score_in_words(detector.scoring.score, model="the model", rows="normal rows")
    flags = (
        "a row whose score is above the threshold is flagged as an anomaly"
        if detector.threshold is not None
        else "it has no threshold yet, so it ranks rows and flags none"
    )
    return (
        "## Intended use\n\n"
        f"It scores {rows[schema.kind]} by {error}: the larger the score, the less the row is "
        f"like those it was trained on; {flags}. It points a person, or a further check, to "
        "unusual rows. It does not say why a row is unusual in the world, and no decision about "
        "a person should rest on it alone."
    )


def training_data(schema: Schema, provenance: Mapping[str, Any]) -> str:
    """The section on the rows that were trained on."""
    rows = provenance.get("training_rows")
    lines = [
        ("rows", "unknown" if rows is None else f"{rows:,}, taken to be normal"),
        ("SHA-256 of the rows", provenance.get("data")),
        ("a row", f"{schema.kind}, {schema.dtype}{list(schema.shape)}"),
    ]
    for name, label in (("recipe", "recipe"), ("input", "file"), ("group", "group")):
        if name in provenance:
            lines.append((label, provenance[name]))
    if schema.names is not None:
        names = ", ".join(schema.names[:MOST_NAMES])
        more = len(schema.names) - MOST_NAMES
        lines.append(("features", names + (f" and {more} more" if more > 0 else "")))
    if schema.offset is not None:
        shifted = [(i, value) for i, value in enumerate(schema.offset) if value]
        named = ", ".join(f"{schema.feature_name(i)} {x:.15g}" for i, x in shifted[:MOST_NAMES])
        lines.append(("subtracted first, in float64", named))
    return f"## Training data\n\n{facts_table(lines)}"


def settings_section(detector: Detector) -> str:
    """The section on the settings, of a detector of groups those that all groups have."""
    config, grouped = detector.config, detector.groups is not None
    numbers = sum(leaf.size for leaf in jax.tree.leaves(detector.variables))
    lines: list[tuple[str, Any]] = [
        (
            f"numbers in the model{' of a group' if grouped else ''}",
            f"{numbers // (detector.members if grouped else 1):,}",
        ),
        ("model", settings.to_dict(config.model)),
        (
            f"scaling{', of each group by itself' if grouped else ''}",
            settings.to_dict(config.scale),
        ),
        ("training", settings.to_dict(config.train)),
        ("error of a feature", shown(config.error)),
        ("score", score_text(detector.scoring.score)),
        ("precision", config.precision),
    ]
    if detector.combine is not None:
        lines.append(("members", f"{detector.members}, scores combined by {detector.combine}"))
    return f"## Settings\n\n{facts_table(lines)}"


def _quality(detector: Detector, metrics: Mapping[str, Any]) -> str:
    measured = dict(metrics.get("measured") or {})
    judged = dict(metrics.get("metrics") or {})
    if not measured and not judged:
        return "## Measured quality\n\nNot measured: no metrics came with the model."
    lines: list[tuple[str, Any]] = []
    for name, label in (("rows", "rows judged"), ("anomalies", "of them anomalies")):
        if judged.get(name) is not None:
            lines.append((label, f"{judged[name]:,}"))
    for name, label in (("auroc", "AUROC"), ("average_precision", "average precision")):
        lines += _interval(judged.get(name), label)
    decided = judged.get("anomaly_positive")
    if isinstance(decided, Mapping):
        lines += [
            (f"{name} at the threshold", decided[name])
            for name in ("precision", "recall", "f1")
            if decided.get(name) is not None
        ]
    known = {name for name in ("auroc", "average_precision") if judged.get(name)}
    published = metrics.get("published") or {}
    for name, value in measured.items():
        if name not in known:
            label = f"{_number(value)}"
            if published.get(name) is not None:
                label += f" (published: {_number(published[name])})"
            lines.append((name, label))
    level = (judged.get("intervals") or {}).get("level")
    note = judged.get("note")
    text = f"## Measured quality\n\n{facts_table(lines)}"
    if level is not None:
        text += (
            f"\n\nIn brackets: {level:.0%} bootstrap intervals over the rows judged. They hold "
            "for rows like these; they say nothing of other data, nor of another training seed."
        )
    return text + (f"\n\n{_text(note)}." if note else "")


def _interval(value: object, label: str) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping) or value.get("value") is None:
        return []
    shown = _number(value["value"])
    if value.get("low") is not None and value.get("high") is not None:
        shown += f" [{_number(value['low'])}, {_number(value['high'])}]"
    return [(label, shown)]


def _thresholds(detector: Detector) -> str:
    if detector.threshold is None and not detector.thresholds:
        return "## Thresholds\n\nNone: it was not calibrated."
    thresholds = [("in use", detector.threshold), *detector.thresholds.items()]
    lines = [
        (
            name,
            f"{kept.value:.9g}, by {settings.rule_text(kept.rule)} "
            f"on {counted(kept.rows, 'score')}"
            + (f"; of normal rows, {promise.text}" if (promise := promise_of(kept)) else ""),
        )
        for name, several in thresholds
        for kept in (() if several is None else several.each)
    ]
    return f"## Thresholds\n\n{facts_table(lines)}"


def _limits(detector: Detector, metrics: Mapping[str, Any]) -> str:
    schema, judged = detector.schema, dict(metrics.get("metrics") or {})
    said = [
        "A score is a distance from the training rows, not a probability. When the data drifts, "
        "scores rise for normal rows too: watch the share that is flagged, and calibrate anew.",
        "Anomalies that the model rebuilds well score low. Anomalous rows among the training "
        "rows teach it to.",
        "A row with a missing value has no score and is never flagged: look for it.",
    ]
    numbers = detector.config.model.numbers
    if numbers is not None:
        said.append(f"It takes whole numbers from 0 to {numbers - 1} only.")
    elif schema.kind == "table":
        said.append("Columns are taken as numbers in the units that they had in training.")
    if not judged.get("anomalies"):
        said.append("It was not judged on labelled anomalies: how many it finds is unknown.")
    for threshold in () if detector.threshold is None else detector.threshold.each:
        if threshold.rows >= 1000:
            continue
        said.append(
            f"The threshold rests on {counted(threshold.rows, 'score')}: "
            "the rate of false alarms is uncertain."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in said)


def made_by(detector: Detector, metrics: Mapping[str, Any]) -> str:
    """The section on what made it."""
    provenance = detector.provenance
    versions = provenance.get("versions") or metrics.get("environment") or {}
    lines: list[tuple[str, Any]] = [
        ("fingerprint of the model", detector.fingerprint),
        ("seed", provenance.get("seeds", detector.config.train.seed)),
    ]
    if provenance.get("best_epoch") is not None:
        lines.append(("parameters are those after epoch", provenance["best_epoch"]))
    if provenance.get("train_seconds") is not None:
        lines.append(("seconds of training", provenance["train_seconds"]))
    lines += [(name, value) for name, value in dict(versions).items()]
    if not versions:
        lines.append(("versions", "unknown: they were not recorded"))
    return f"## Provenance\n\n{facts_table(lines)}"


def facts_table(lines: list[tuple[str, Any]]) -> str:
    """A Markdown table of facts and their values."""
    rows = [
        f"| {_text(name)} | {'unknown' if value is None else _value(value)} |"
        for name, value in lines
    ]
    return "\n".join(["| what | value |", "| --- | --- |", *rows])


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(name)}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_value, value)) + ")"
    return _number(value) if isinstance(value, float) else _text(value)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(value: object) -> str:
    """Text that stays one cell of a table, whatever a column was called."""
    shown = re.sub(r"[\x00-\x1f\x7f]", "", " ".join(str(value).split()))
    # No markup, no other cell, no link.
    return re.sub(r"[\\`*|<]|(?<=\])\(", r"\\\g<0>", shown)


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
