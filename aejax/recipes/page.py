"""What a run leaves to be read: the report, the numbers and the model card."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import Config, to_dict
from aejax.detection.detector import Detector
from aejax.detection.tuning import Tuning
from aejax.exporting.model_card import write_model_card
from aejax.recipes.recipe import Experiment, Figures
from aejax.reporting.examples import report_on
from aejax.reporting.kept import keep_report
from aejax.reporting.report import write_metrics, write_report
from aejax.reporting.slider import calibrate_command
from aejax.reporting.style import plain_png


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
    report = report_on(
        detector,
        experiment.x_test,
        experiment.is_anomaly,
        scores,
        places=experiment.places,
        title=story.title,
        subtitle=story.subtitle,
        config=to_dict(config),
        metrics=metrics,
        published=story.published or None,
        measured=measured,
        seconds=seconds,
        environment=environment,
        figures=tuple((title, text, plain_png(drawn)) for title, text, drawn in figures),
        calibrate_command=calibrate_command(str(out)),
        tuning=story.tuning,
    )
    page = write_report(report, out)
    keep_report(report, out)
    written = write_metrics(out, story.published, measured, metrics, seconds, environment)
    write_model_card(detector, written, out)
    return page
