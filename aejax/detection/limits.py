"""What is uncertain about detectors of many groups, in a few sentences."""

from __future__ import annotations

from aejax.detection.detector import Detector

# Scores below which the rate of false alarms that a threshold gives is uncertain.
FEW_SCORES = 100


def limits_of(detector: Detector) -> list[str]:
    """What is uncertain about some groups of a detector, in sentences."""
    groups, thresholds = detector.grouped
    said = []
    few = int((thresholds.rows < FEW_SCORES).sum())
    if few:
        said.append(
            f"The thresholds of {few:,} of {len(groups):,} groups rest on fewer than "
            f"{FEW_SCORES} scores each: their rates of false alarms are uncertain."
        )
    alarmed = sum(bool(group.alarms) for group in groups.each)
    if alarmed:
        said.append(
            f"{alarmed:,} of {len(groups):,} groups raised an alarm in training or calibration; "
            "groups.csv of the run says which."
        )
    if groups.skipped:
        said.append(
            f"Groups of the training rows that have no detector: {len(groups.skipped):,}. Their "
            "rows, and those of groups that were not there, get no score."
        )
    return said
