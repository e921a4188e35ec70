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
from tests.plain import plain_config

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
    text = sections(card)
    assert list(text) == SECTIONS
    assert f"| rows | {detector.provenance['training_rows']}, taken" in text["Training data"]
    assert detector.provenance["data"] in text["Training data"]
    assert "sensor_0, sensor_1" in text["Training data"]
    assert "hidden: (8, 2)" in text["Settings"]
    assert "Not measured" in text["Measured quality"]
    assert f"{detector.threshold.value:.9g}, by quantile:0.99 on 40 scores" in text["Thresholds"]
    assert "not judged on labelled anomalies" in text["Limits"]
    assert detector.fingerprint in text["Provenance"]


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
    text = sections(model_card(detector, metrics))
    auroc = judged["auroc"]
    shown = f"| AUROC | {auroc['value']:.4g} [{auroc['low']:.4g}, {auroc['high']:.4g}] |"
    assert shown in text["Measured quality"]
    assert "95% bootstrap" in text["Measured quality"]
    assert "| final_loss | 0.25 (published: 0.5) |" in text["Measured quality"]
    assert "| of them anomalies | 100 |" in text["Measured quality"]
    assert "not judged" not in text["Limits"]
    assert "| jax | 1.2.3 |" in text["Provenance"]


def test_ensembles_and_named_thresholds_are_shown() -> None:
    x = np.random.default_rng(0).random((120, 4)).astype(np.float32)
    configs = [plain_config(train=aejax.Train(epochs=1, seed=seed)) for seed in (3, 4)]
    detector = fit_population(configs, x).ensemble(x)
    text = model_card(detector.calibrate(x, rule=Conformal(alpha=0.1), name="strict"))
    assert "# Model card: an ensemble of 2 times a dense autoencoder" in text
    assert "| strict | " in text
    assert "conformal:0.1 on 120 scores" in text
    assert "| seed | (3, 4) |" in text


def test_no_name_breaks_out_of_its_cell(detector: Detector, tmp_path: Path) -> None:
    names = ("a|b", "<script>", "`x`", "[y](javascript:z)", "two\nlines", "\\|")
    odd = dataclasses.replace(detector, schema=dataclasses.replace(detector.schema, names=names))
    odd = dataclasses.replace(odd, threshold=None)
    path = write_model_card(odd, None, tmp_path)
    assert path == tmp_path / "MODEL_CARD.md"
    text = sections(path.read_text())
    (line,) = [line for line in text["Training data"].splitlines() if "script" in line]
    assert line == (
        "| features | a\\|b, \\<script>, \\`x\\`, [y]\\(javascript:z), two lines, \\\\\\| |"
    )
    assert "not calibrated" in text["Thresholds"]
    assert "flags none" in text["Intended use"]
