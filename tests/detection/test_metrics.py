from __future__ import annotations

import json
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from aejax.config import InputError
from aejax.detection import metrics


def draw(rows: int, share: float, seed: int = 0, decimals: int | None = None):
    random = np.random.default_rng(seed)
    labels = random.random(rows) < share
    scores = random.normal(size=rows) + 1.2 * labels
    return (scores if decimals is None else scores.round(decimals)), labels


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_values_equal_scikit_learn(decimals):
    scores, labels = draw(700, 0.2, decimals=decimals)
    found = metrics.evaluate(scores, labels, 0.5)
    flagged = scores > 0.5
    assert found["rows"] == 700
    assert found["anomalies"] == labels.sum()
    assert found["flagged"] == flagged.sum()
    assert found["auroc"]["value"] == pytest.approx(reference.roc_auc_score(labels, scores))
    expected = reference.average_precision_score(labels, scores)
    assert found["average_precision"]["value"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, flagged))
    for view, positive in (("anomaly_positive", True), ("normal_positive", False)):
        truth, decided = labels == positive, flagged == positive
        precision, recall, f1, _ = reference.precision_recall_fscore_support(
            truth, decided, average="binary"
        )
        assert found[view]["precision"] == pytest.approx(precision)
        assert found[view]["recall"] == pytest.approx(recall)
        assert found[view]["f1"] == pytest.approx(f1)
        (true_negatives, false_positives), (false_negatives, true_positives) = (
            reference.confusion_matrix(truth, decided)
        )
        assert found[view]["true_positives"] == true_positives
        assert found[view]["false_positives"] == false_positives
        assert found[view]["false_negatives"] == false_negatives
        assert found[view]["true_negatives"] == true_negatives
        assert found[view]["accuracy"] == found["accuracy"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def plain_bootstrap(scores, labels, replicas, seed=1):
    """The textbook: resample rows of each class, ask scikit-learn, take percentiles."""
    random = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    drawn = []
    for _ in range(replicas):
        rows = np.r_[
            random.choice(positive, len(positive)),
            random.choice(negative, len(negative)),
        ]
        drawn.append(
            (
                reference.roc_auc_score(labels[rows], scores[rows]),
                reference.average_precision_score(labels[rows], scores[rows]),
            )
        )
    return np.quantile(drawn, (0.025, 0.975), axis=0).T


@pytest.mark.parametrize("decimals", [None, 1])
def test_interval_equals_a_plain_bootstrap(decimals):
    scores, labels = draw(400, 0.25, decimals=decimals)
    found = metrics.evaluate(scores, labels, None, bootstrap=3000)
    for name, (low, high) in zip(
        ("auroc", "average_precision"), plain_bootstrap(scores, labels, 400), strict=True
    ):
        # 400 replicas leave a standard error of about 6 % of the interval's half width.
        tolerance = 0.18 * (high - low)
        assert found[name]["low"] == pytest.approx(low, abs=tolerance)
        assert found[name]["high"] == pytest.approx(high, abs=tolerance)
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


@pytest.mark.parametrize("decimals", [None, 2, 0])
def test_areas_of_the_cells_equal_scikit_learn(decimals):
    scores, labels = draw(900, 0.3, decimals=decimals)
    positives, negatives = metrics._cells(scores, labels)
    assert positives.sum() == labels.sum()
    assert negatives.sum() == (~labels).sum()
    auroc, average_precision = metrics._areas(positives[None], negatives[None])
    assert auroc[0] == pytest.approx(reference.roc_auc_score(labels, scores), rel=1e-12)
    expected = reference.average_precision_score(labels, scores)
    assert average_precision[0] == pytest.approx(expected, rel=1e-12)


def test_many_anomalies_share_cells_without_moving_the_interval(monkeypatch):
    scores, labels = draw(3000, 0.5)
    exact = metrics.evaluate(scores, labels, None, bootstrap=1500)
    monkeypatch.setattr(metrics, "MAX_CELLS", 200)
    assert len(metrics._cells(scores, labels)[0]) <= 200
    coarse = metrics.evaluate(scores, labels, None, bootstrap=1500)
    for name in ("auroc", "average_precision"):
        width = exact[name]["high"] - exact[name]["low"]
        assert coarse[name]["value"] == exact[name]["value"]
        for end in ("low", "high"):
            assert coarse[name][end] == pytest.approx(exact[name][end], abs=0.1 * width)


def test_interval_of_auroc_covers_the_truth_as_often_as_it_says():
    # Normal scores, one standard deviation apart: the true AUROC is Phi(1 / sqrt(2)).
    truth = 0.7602499389065233
    covered = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        scores = np.r_[random.normal(1, 1, 80), random.normal(0, 1, 120)]
        labels = np.arange(200) < 80
        area = metrics.evaluate(scores, labels, None)["auroc"]
        covered += area["low"] <= truth <= area["high"]
    assert 0.89 <= covered / 150 <= 0.99


def test_a_hundred_thousand_rows_take_seconds_at_most():
    scores, labels = draw(100_000, 0.5)
    started = time.process_time()
    found = metrics.evaluate(scores, labels, 1.0)
    assert time.process_time() - started < 10
    assert found["auroc"]["high"] - found["auroc"]["low"] < 0.01


def test_same_seed_same_interval_and_row_order_does_not_matter():
    scores, labels = draw(300, 0.3)
    order = np.random.default_rng(5).permutation(300)
    first = metrics.evaluate(scores, labels, 0.3, seed=4)
    assert metrics.evaluate(scores[order], labels[order], 0.3, seed=4) == first
    assert metrics.evaluate(scores, labels, 0.3, seed=5)["auroc"] != first["auroc"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_ranking_but_has_decisions(label):
    found = metrics.evaluate([0.1, 0.9], [label, label], 0.5)
    assert found["auroc"] is None
    assert found["average_precision"] is None
    assert "both classes" in found["note"]
    assert found["accuracy"] == 0.5
    empty = found["normal_positive"] if label else found["anomaly_positive"]
    assert empty["recall"] is None


def test_without_threshold_or_replicas():
    found = metrics.evaluate([0.1, 0.2, 0.9], [0, 0, 1], None, bootstrap=0)
    assert found["auroc"] == {"value": 1.0, "low": None, "high": None}
    assert "anomaly_positive" not in found
    assert "threshold" not in found


def test_a_row_is_flagged_strictly_above_the_threshold():
    found = metrics.evaluate([1.0, 2.0, 3.0], [0, 0, 1], 2.0)
    assert found["flagged"] == 1
    assert metrics.evaluate([1.0, 2.0], [0, 1], 9.0)["anomaly_positive"]["precision"] is None


def test_constant_scores_guess():
    found = metrics.evaluate(np.full(50, 0.5), np.arange(50) < 10, 0.5)
    assert found["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["average_precision"]["value"] == pytest.approx(0.2)
    assert found["flagged"] == 0


@pytest.mark.parametrize(
    ("scores", "labels", "threshold", "message"),
    [
        ([1.0, 2.0], [0], 0.5, "scores has 2 rows and is_anomaly 1"),
        ([1.0, np.nan], [0, 1], 0.5, r"scores\[1\] is nan"),
        ([np.inf, 1.0], [0, 1], 0.5, r"scores\[0\] is inf"),
        ([1.0, 2.0], [0, 2], 0.5, r"is_anomaly\[1\] is 2; allowed: 0"),
        ([1.0, 2.0], [0.0, np.nan], 0.5, r"is_anomaly\[1\] is nan"),
        ([1.0, 2.0], ["a", "b"], 0.5, "is_anomaly has dtype"),
        ([[1.0], [2.0]], [0, 1], 0.5, r"scores has shape \(2, 1\)"),
        ([], [], 0.5, "at least one row"),
        ([1.0, 2.0], [0, 1], np.nan, "threshold is nan"),
    ],
)
def test_what_cannot_be_used_is_named(scores, labels, threshold, message):
    with pytest.raises(InputError, match=message):
        metrics.evaluate(scores, labels, threshold)


def test_bootstrap_must_be_a_count():
    with pytest.raises(InputError, match="bootstrap is -1"):
        metrics.evaluate([1.0, 2.0], [0, 1], None, bootstrap=-1)


@pytest.mark.parametrize("rows", [40, 50_000])
def test_thinned_curves_keep_the_area(rows):
    scores, labels = draw(rows, 0.3)
    false_alarms, recall = metrics.roc_curve(scores, labels)
    assert len(false_alarms) == len(recall) <= 512
    assert (false_alarms[0], recall[0]) == (0, 0)
    assert (false_alarms[-1], recall[-1]) == (1, 1)
    area = np.trapezoid(recall, false_alarms)
    assert area == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-3)
    recall, precision = metrics.precision_recall_curve(scores, labels)
    assert len(recall) <= 512
    assert (recall[0], recall[-1]) == (0, 1)
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(reference.average_precision_score(labels, scores), abs=4e-3)


def test_a_curve_needs_both_classes():
    with pytest.raises(InputError, match="is_anomaly holds 1 only"):
        metrics.roc_curve([1.0, 2.0], [1, 1])
