"""What earlier versions wrote is read, scores as it did, and is trained again to the same numbers.

`golden/detector-format-3` was written by earlier versions of the package, whose detectors
lacked fields that came later (usual errors, deciles, kinds of score). They were of formats 1 and 2,
which kept arrays in a folder of Orbax's and which nobody has released: the arrays were moved to
format 3's file under the digests that they had, and nothing else was changed.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.data import files
from aejax.detection.detector import Detector

GOLDEN = Path(__file__).parent / "golden" / "detector-format-3"
INPUTS = {"dense": "rows.npy", "ensemble": "rows.npy", "conv": "images.npy"}


def array(name: str) -> np.ndarray:
    found: np.ndarray = np.load(GOLDEN / name, allow_pickle=False)
    return found


def golden(name: str, tmp_path: Path) -> Detector:
    """A copy, because nothing may write to what is read."""
    shutil.copytree(GOLDEN / name, tmp_path / name)
    return aejax.load(tmp_path / name)


@pytest.mark.parametrize("name", INPUTS)
def test_an_old_detector_scores_as_it_did(name: str, tmp_path: Path) -> None:
    detector = golden(name, tmp_path)
    found, expected = detector.score(array(INPUTS[name])), array(f"{name}-scores.npy")
    # Compilers of another version may add up in another order.
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert detector.threshold is not None
    assert detector.threshold.deciles is None
    assert detector.usual_errors is None
    reasons = detector.explain(array(INPUTS[name])[:2], top=2)
    assert all(np.isnan(reason.usual) for row in reasons for reason in row)


def test_an_old_conformal_threshold_gives_p_values(tmp_path: Path) -> None:
    values = golden("dense", tmp_path).p_values(array("rows.npy"))
    assert ((values > 0) & (values <= 1)).all()


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_training_again_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    """Initial values, order, batches, BatchNorm, Adam: none may change unnoticed."""
    old = golden(name, tmp_path)
    # The default when it was trained.
    config = dataclasses.replace(old.config, calibration="held-out")
    again = aejax.fit(config, array(INPUTS[name]), schema=old.schema)
    for then, now in zip(old.history, again.history, strict=True):
        for key in ("loss", "validation_loss"):
            # A bias in front of a BatchNorm has a gradient of rounding errors only, which Adam
            # makes as large as any other: it moves the running means, and with them this.
            np.testing.assert_allclose(now[key], then[key], rtol=1e-3)
    np.testing.assert_allclose(
        again.score(array(INPUTS[name])), array(f"{name}-scores.npy"), rtol=1e-2
    )


def test_an_old_detector_saved_again_is_the_same(tmp_path: Path) -> None:
    old = golden("dense", tmp_path)
    old.save(tmp_path / "again")
    again = aejax.load(tmp_path / "again")
    assert again.fingerprint == old.fingerprint
    assert dataclasses.asdict(again.config) == dataclasses.asdict(old.config)


def test_an_old_detector_of_a_mixed_table_scores_as_it_did(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "old")
    detector = aejax.load(tmp_path / "old" / "mixed")
    rows, _, _ = files.read(tmp_path / "old" / "rows.csv", expected=detector.schema)
    expected = np.load(tmp_path / "old" / "mixed-scores.npy", allow_pickle=False)
    np.testing.assert_allclose(detector.score(rows), expected, rtol=2e-5)
    reasons = {reason.feature: reason for reason in detector.explain(rows[:1], top=9)[0]}
    assert reasons["country"].found == "a value never seen"
    assert reasons["country"].expected in ("GB", "DE", "FR", "a value never seen")
    detector.save(tmp_path / "again")
    assert aejax.load(tmp_path / "again").fingerprint == detector.fingerprint
