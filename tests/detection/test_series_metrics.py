"""Volumes under the surface, beside their definition and their authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest

from aejax.config import InputError
from aejax.detection.series_metrics import evaluate_series, stretches, volumes

LABELS = np.zeros(600, int)
LABELS[100:130] = LABELS[140:150] = LABELS[580:600] = 1
SCORES = np.round(np.random.default_rng(0).random(600) + 0.5 * LABELS, 2)


def test_volumes_are_those_of_the_authors_package() -> None:
    # RangeAUC_volume_opt of vus 0.0.6, with a window of 40.
    found = volumes(SCORES, LABELS, 40)
    assert found.roc == pytest.approx(0.911766683026215, abs=1e-12)
    assert found.pr == pytest.approx(0.7083978976893188, abs=1e-12)


def by_definition(scores: np.ndarray, labels: np.ndarray, buffer: int) -> tuple[float, float]:
    """One point, one threshold and one margin after the other."""
    rows, areas = len(labels), []
    ordered = -np.sort(-scores)
    spans = list(zip(*(ends.tolist() for ends in stretches(labels)), strict=True))
    for margin in range(buffer + 1):
        credit, half = labels.astype(float), margin // 2
        for first, last in spans:
            for point in range(rows):
                distance = max(first - point, point - last)
                if 0 < distance <= half:
                    credit[point] += np.sqrt(1 - distance / margin)
        credit = np.minimum(credit, 1)
        inside = np.zeros(rows + 2, bool)
        for first, last in spans:
            inside[max(first - half, 0) + 1 : min(last + half, rows - 1) + 2] = True
        # Stretches whose margins lie side by side without touching stay two.
        starts = [first - half for first, _ in spans]
        stops = [last + half for _, last in spans]
        merged = [[starts[0], stops[0]]]
        for start, stop in zip(starts[1:], stops[1:], strict=True):
            if merged[-1][1] >= start:
                merged[-1][1] = stop
            else:
                merged.append([start, stop])
        up, right, precision = [0.0], [0.0], []
        for at in np.linspace(0, rows - 1, 250).astype(int):
            flags = scores >= ordered[at]
            true = float((credit * flags).sum())
            positives = (labels.sum() + labels.sum() + (credit * flags)[labels == 0].sum()) / 2
            exists = [flags[max(a, 0) : min(b, rows - 1) + 1].any() for a, b in merged]
            up.append(min(true / positives, 1) * float(np.mean(exists)))
            right.append((flags.sum() - true) / (rows - positives))
            precision.append(true / flags.sum())
        pr = sum((b - a) * p for a, b, p in zip(up[:-1], up[1:], precision, strict=True))
        up, right = [*up, 1.0], [*right, 1.0]
        roc = float(np.trapezoid(up, right))
        areas.append((roc, pr))
    roc, pr = np.mean(areas, axis=0)
    return float(roc), float(pr)


@pytest.mark.parametrize("seed", range(5))
def test_volumes_are_those_of_their_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.zeros(300, int)
    for _ in range(4):
        first = int(random.integers(0, 290))
        labels[first : first + int(random.integers(1, 30))] = 1
    scores = np.round(random.random(300) + 0.3 * labels, 1 + seed % 2)
    found = volumes(scores, labels, 12)
    np.testing.assert_allclose(found, by_definition(scores, labels, 12), rtol=1e-9)


def test_stretches_and_events_are_counted_as_they_stand() -> None:
    labels = [0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]
    scores = [0, 0, 9, 9, 9, 0, 9, 0, 0, 0, 9, 9]
    found = evaluate_series(scores, labels, 5)
    assert found == {
        "stretches": 2,
        "stretches_found": 1,
        "event_recall": 0.5,
        "events": 3,
        "events_in_stretches": 1,
        "event_precision": 1 / 3,
        "median_delay": 1.0,
    }
    # Two series that meet in a stretch, and in an event.
    series = np.repeat(["b", "a"], [3, 9])
    parted = evaluate_series(scores, labels, 5, series=series, buffer=2)
    assert (parted["stretches"], parted["events"]) == (3, 4)
    each = [volumes(scores[:3], labels[:3], 2), volumes(scores[3:], labels[3:], 2)]
    assert (parted["vus_roc"], parted["vus_pr"]) == pytest.approx(np.mean(each, axis=0))
    assert evaluate_series(scores, labels, 5, merge_gap=1)["events"] == 2
    assert evaluate_series(scores, [0] * 12, 10)["event_recall"] is None


def test_a_perfect_score_fills_the_volume_without_a_margin() -> None:
    assert volumes(LABELS + 0.0, LABELS, 0) == (1.0, 1.0)
    assert volumes(SCORES, LABELS, 0).pr < volumes(SCORES + LABELS, LABELS, 0).pr


@pytest.mark.parametrize(
    ("scores", "labels", "buffer", "message"),
    [
        (SCORES[1:], LABELS, 5, "allowed: \\[n\\] both"),
        (np.where(LABELS, np.nan, 0), LABELS, 5, "a score for every point"),
        (SCORES, 0 * LABELS, 5, "labels are all of one kind"),
        (SCORES, LABELS, -1, "buffer is -1; allowed: at least 0"),
    ],
)
def test_what_has_no_volume_is_refused(
    scores: np.ndarray, labels: np.ndarray, buffer: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        volumes(scores, labels, buffer)
