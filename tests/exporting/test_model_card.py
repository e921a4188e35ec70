from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import aejax
from aejax import Conformal
from aejax.detection.detector import Detector
from aejax.detection.metrics import evaluate
from aejax.detection.population import fit_population
from aejax.exporting.model_card import model_card, write_model_card

SECTIONS = [
    "Intended use",
    "Training data",
    "Settings",
    "Measured quality",
    "Thresholds",
    "Limits",
    "Provenance",
]


def sections(card: str) -> dict[str, str]:
    blocks = card.split("\n## ")[1:]
    return {block.partition("\n")[0]: block.partition("\n")[2] for block in blocks}


def test_a_card_says_what_is_known(detector: Detector) -> None:
    assert detector.threshold is not None
    card = model_card(detector)
    assert card.startswith("# Model card: a dense autoencoder of 6 features\n")
    told = sections(card)
    assert list(told) == SECTIONS
    assert f"| rows | {detector.provenance['training_rows']}, taken" in told["Training data"]
    assert detector.provenance["data"] in told["Training data"]
    assert "sensor_0, sensor_1" in told["Training data"]
    assert "hidden: (8, 2)" in told["Settings"]
    assert "Not measured" in told["Measured quality"]
    assert f"{detector.threshold.value:.9g}, by quantile:0.99 on 40 scores" in told["Thresholds"]
    assert "not judged on labelled anomalies" in told["Limits"]
    assert detector.fingerprint in told["Provenance"]


def test_quality_comes_with_its_interval(detector: Detector) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4 == 0
    judged = evaluate(random.normal(size=400) + labels, labels, 0.5)
    metrics = {
        "published": {"auroc": 0.9, "final_loss": 0.5},
        "measured": {"auroc": judged["auroc"]["value"], "final_loss": 0.25},
        "metrics": judged,
        "environment": {"jax": "1.2.3"},
    }
    told = sections(model_card(detector, metrics))
    auroc = judged["auroc"]
    shown = f"| AUROC | {auroc['value']:.4g} [{auroc['low']:.4g}, {auroc['high']:.4g}] |"
    assert shown in told["Measured quality"]
    assert "95% bootstrap" in told["Measured quality"]
    assert "| final_loss | 0.25 (published: 0.5) |" in told["Measured quality"]
    assert "| of them anomalies | 100 |" in told["Measured quality"]
    assert "not judged" not in told["Limits"]
    assert "| jax | 1.2.3 |" in told["Provenance"]


def test_ensembles_and_named_thresholds_are_told() -> None:
    x = np.random.default_rng(0).random((120, 4)).astype(np.float32)
    configs = [aejax.Config(train=aejax.Train(epochs=1, seed=seed)) for seed in (3, 4)]
    detector = fit_population(configs, x).ensemble(x)
    told = model_card(detector.calibrate(x, rule=Conformal(alpha=0.1), name="strict"))
    assert "# Model card: an ensemble of 2 times a dense autoencoder" in told
    assert "| strict | " in told
    assert "conformal:0.1 on 120 scores" in told
    assert "| seed | (3, 4) |" in told


def test_no_name_breaks_out_of_its_cell(detector: Detector, tmp_path: Path) -> None:
    names = ("a|b", "<script>", "`x`", "[y](javascript:z)", "two\nlines", "\\|")
    odd = dataclasses.replace(detector, schema=dataclasses.replace(detector.schema, names=names))
    odd = dataclasses.replace(odd, threshold=None)
    path = write_model_card(odd, None, tmp_path)
    assert path == tmp_path / "MODEL_CARD.md"
    told = sections(path.read_text())
    (line,) = [line for line in told["Training data"].splitlines() if "script" in line]
    assert line == (
        "| features | a\\|b, \\<script>, \\`x\\`, [y]\\(javascript:z), two lines, \\\\\\| |"
    )
    assert "not calibrated" in told["Thresholds"]
    assert "flags none" in told["Intended use"]
