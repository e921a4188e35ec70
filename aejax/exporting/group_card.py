"""A model card for a detector of groups: what holds for all of them, and how far they differ.

In the order of `aejax.exporting.model_card`; of bounded length, however many groups there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax import config as settings
from aejax.detection.detector import Detector
from aejax.detection.groups import Groups
from aejax.detection.promise import limits_of, promise_of
from aejax.exporting.model_card import (
    counted,
    facts_table,
    made_by,
    score_in_words,
    settings_section,
    training_data,
    write_card,
)


def write_group_card(
    detector: Detector, metrics: Mapping[str, Any] | None, folder: Path, *, renew: bool = False
) -> Path:
    """Write `MODEL_CARD.md`.

    Args:
        detector: of all groups.
        metrics: what the run's `metrics.json` holds, or None.
        folder: that exists.
        renew: as in `write_model_card`.

    Returns:
        Path of the file.
    """
    return write_card(group_card(detector, metrics), folder, renew=renew)


def group_card(detector: Detector, metrics: Mapping[str, Any] | None = None) -> str:
    """The card as Markdown."""
    schema = detector.schema
    kind = settings.to_dict(detector.config.model)["kind_name"].replace("-", " ")
    groups, _ = detector.grouped
    many = counted(len(groups), "detector")
    blocks = [
        f"# Model card: {many} of groups, each a {kind} autoencoder of "
        f"{counted(schema.features, 'feature')}",
        _use(detector, groups),
        training_data(schema, detector.provenance),
        _groups(groups),
        settings_section(detector),
        _quality(metrics or {}),
        _thresholds(detector),
        _limits(detector, metrics or {}),
        made_by(detector, metrics or {}),
    ]
    return "\n\n".join(blocks) + "\n"


def spread_of(values: np.ndarray) -> dict[str, float]:
    """The lowest, the median and the highest of a number that every group has, those with one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    low, middle, high = np.quantile(known, [0, 0.5, 1]).tolist()
    return {"lowest": low, "median": middle, "highest": high}


def _use(detector: Detector, groups: Groups) -> str:
    error = score_in_words(
        detector.scoring.score, model="the group's model", rows="normal rows of the group"
    )
    return (
        "## Intended use\n\n"
        f"They score rows by {error}. `{groups.column}` names a row's group. A row whose score "
        "is above its own group's threshold is flagged as an anomaly; scores of different groups "
        "compare only beside their thresholds. They point a person, or a further check, to "
        "unusual rows. They do not say why a row is unusual in the world, and no decision about "
        "a person should rest on them alone."
    )


def _groups(groups: Groups) -> str:
    rows = np.array([group.rows for group in groups.each], np.float64)
    left = np.array([np.nan if g.error_left is None else g.error_left for g in groups.each])
    lines: list[tuple[str, Any]] = [
        ("column", groups.column),
        ("groups with a detector", f"{len(groups):,}"),
        ("groups without one", f"{len(groups.skipped):,}"),
        ("rows of a group", spread_of(rows)),
    ]
    if spread := spread_of(left):
        lines.append(("error left, as a share of an untrained network's", spread))
    return f"## Groups\n\n{facts_table(lines)}"


def _quality(metrics: Mapping[str, Any]) -> str:
    measured = dict(metrics.get("measured") or {})
    if not measured:
        return "## Measured quality\n\nNot measured: no metrics came with the models."
    text = f"## Measured quality\n\n{facts_table(list(measured.items()))}"
    return text + "\n\nMeasured on the rows of the run, those that were trained on included."


def _thresholds(detector: Detector) -> str:
    _, thresholds = detector.grouped
    rules = sorted({settings.rule_text(threshold.rule) for threshold in thresholds.each})
    lines = [
        ("a group's own, by", ", ".join(rules)),
        ("values", spread_of(thresholds.values)),
        ("scores that one rests on", spread_of(thresholds.rows.astype(np.float64))),
    ]
    if (promise := promise_of(thresholds)) is not None:
        lines.append(("flags of normal rows", promise.text))
    return f"## Thresholds\n\n{facts_table(lines)}"


def _limits(detector: Detector, metrics: Mapping[str, Any]) -> str:
    said = [
        "A score is a distance from the group's training rows, not a probability. When the data "
        "drifts, scores rise for normal rows too: watch the share that is flagged, and calibrate "
        "anew.",
        "Anomalies that a model rebuilds well score low. Anomalous rows among the training rows "
        "teach it to.",
        "A row with a missing value, or of a group without a detector, has no score and is never "
        "flagged: look for it.",
        *limits_of(detector),
    ]
    if not (metrics.get("measured") or {}).get("groups_with_anomalies"):
        said.append("No group was judged on labelled anomalies: how many they find is unknown.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in said)
