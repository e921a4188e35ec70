"""What a run leaves to be read: the report, the numbers and the model card."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, to_dict
from aejax.detection.detector import Detector
from aejax.detection.promise import promise_of
from aejax.detection.tuning import Tuning
from aejax.exporting.model_card import write_model_card
from aejax.recipes.examples import examples, reasons
from aejax.recipes.recipe import Experiment, Figures
from aejax.reporting.report import Report, write_metrics, write_report
from aejax.reporting.slider import MOST_ROWS_SHOWN, calibrate_command

EXAMPLES = {"image": 10, "series": 4, "table": 4}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """What a report says around the numbers.

    Attributes:
        name: of the recipe, or what stands for it.
        title: of the report.
        subtitle: one or two sentences.
        published: the published numbers, by name.
        identity: what decides the run besides configuration and rows.
        tuning: the search that found the configuration, or None.
    """

    name: str
    title: str
    subtitle: str
    published: dict[str, float]
    identity: dict[str, Any]
    tuning: Tuning | None = None


def write_page(
    out: Path,
    config: Config,
    detector: Detector,
    experiment: Experiment,
    *,
    story: Story,
    scores: np.ndarray,
    metrics: dict[str, Any],
    measured: dict[str, float],
    seconds: dict[str, float],
    environment: dict[str, str],
    figures: Figures,
) -> Path:
    """Write `report.html` with its plots, `metrics.json` and the model card.

    Args:
        out: the run's folder.
        config: all settings.
        detector: as it was saved.
        experiment: the rows.
        story: what the report says around the numbers.
        scores: of the test rows, float32 [n].
        metrics: of the scores.
        measured: our numbers, under the published names.
        seconds: by stage.
        environment: what computed.
        figures: further ones.

    Returns:
        The report's path.
    """
    order = np.argsort(-scores, kind="stable")
    count = min(EXAMPLES[experiment.schema.kind], len(order))
    page = write_report(
        Report(
            title=story.title,
            subtitle=story.subtitle,
            config=to_dict(config),
            history=detector.history,
            scores=scores,
            is_anomaly=experiment.is_anomaly,
            threshold=detector.threshold_value,
            metrics=metrics,
            published=story.published or None,
            measured=measured,
            seconds=seconds,
            schema=experiment.schema,
            most=examples(detector, experiment, scores, order[:count]),
            least=examples(detector, experiment, scores, order[::-1][:count]),
            environment=environment,
            figures=figures,
            reasons=reasons(detector, experiment, order[:MOST_ROWS_SHOWN]),
            calibrate_command=calibrate_command(str(out)),
            alarms=tuple(detector.provenance.get("alarms", ())),
            promise=promise_of(detector.threshold),
            tuning=story.tuning,
        ),
        out,
    )
    written = write_metrics(out, story.published, measured, metrics, seconds, environment)
    write_model_card(detector, written, out)
    return page
