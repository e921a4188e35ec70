"""Methods of a detector: scores depend on model and row only, and all can be explained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

import aejax
from aejax import Dense, InputError, MeanStd, Quantile, Scale, Train
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from tests.plain import plain_config

NAMES = ("width", "height", "depth", "mass", "age")
N = 300


def rows(n: int = N, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(2, 5))
    noise = 0.1 * random.normal(size=(n, 5))
    return (random.normal(size=(n, 2)) @ mixing + noise).astype(np.float32)


CONFIG = plain_config(
    model=Dense(hidden=(8, 2), activation="tanh", batch_norm=True),
    train=Train(epochs=3, batch_size=64, learning_rate=0.01),
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return aejax.fit(CONFIG, pd.DataFrame(rows(), columns=list(NAMES)))


@pytest.mark.parametrize("batch_size", [1, 7, 64, N, 1000, None])
def test_scores_do_not_depend_on_the_batch(detector: Detector, batch_size: int | None) -> None:
    expected = detector.score(rows(), batch_size=128)
    found = detector.score(rows(), batch_size=batch_size)
    assert found.dtype == np.float32
    assert found.shape == (N,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scores_do_not_depend_on_the_order_or_the_company(detector: Detector) -> None:
    expected = detector.score(rows(), batch_size=32)
    order = np.random.default_rng(1).permutation(N)
    np.testing.assert_allclose(
        detector.score(rows()[order], batch_size=32), expected[order], rtol=1e-5
    )
    wild = np.concatenate([rows()[:5], rows() * 1e6])
    np.testing.assert_allclose(detector.score(wild, batch_size=32)[:5], expected[:5], rtol=1e-5)


def test_rows_are_left_as_they_are(detector: Detector) -> None:
    x = rows(100)
    detector.score(x, batch_size=16)
    np.testing.assert_array_equal(x, rows(100))


@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(detector: Detector, n: int) -> None:
    assert detector.score(rows(n)).shape == (n,)
    assert detector.predict(rows(n)).dtype == bool
    assert detector.encode(rows(n)).shape == (n, 2)
    assert [len(row) for row in detector.explain(rows(n), top=2)] == [2] * n
    scaled, found = detector.reconstruct(rows(n))
    assert scaled.shape == found.shape == (n, 5)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda x: x[::-1][::-1], lambda x: x.tolist()])
def test_how_rows_lie_in_memory_does_not_matter(detector: Detector, make: Any) -> None:
    np.testing.assert_array_equal(detector.score(make(rows())), detector.score(rows()))
    np.testing.assert_array_equal(detector.score(rows().astype(np.float64)), detector.score(rows()))
    wide = np.repeat(rows(), 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(detector.score(wide), detector.score(rows()))
    shifted = np.concatenate([rows(1), rows()])[1:]
    np.testing.assert_allclose(detector.score(shifted), detector.score(rows()), rtol=1e-6)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_of_a_frame_are_matched_by_name(detector: Detector, frame: Any) -> None:
    columns = {name: rows()[:, i] for i, name in enumerate(NAMES)}
    shuffled = frame({name: columns[name] for name in reversed(NAMES)} | {"more": rows()[:, 0]})
    np.testing.assert_array_equal(detector.score(shuffled), detector.score(rows()))
    del columns["mass"]
    with pytest.raises(InputError, match="rows have no column 'mass'; found: width"):
        detector.score(frame(columns))


def test_a_frame_without_column_names(detector: Detector) -> None:
    fitted = aejax.fit(CONFIG, pd.DataFrame(rows()))
    assert fitted.schema.names == ("0", "1", "2", "3", "4")
    np.testing.assert_array_equal(
        fitted.score(pd.DataFrame(rows())[[4, 3, 2, 1, 0]]), fitted.score(rows())
    )


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["score", "predict", "explain", "calibrate"])
def test_a_wild_value_is_named(
    detector: Detector, method: str, wild: float, clip: float | None
) -> None:
    clipped = detector.scaler._replace(limit=None if clip is None else np.float32(clip))
    config = dataclasses.replace(CONFIG, scale=Scale(clip=clip))
    detector = dataclasses.replace(detector, scaler=clipped, config=config)
    x = rows()
    x[123, 2] = wild
    with pytest.raises(InputError, match=f"row 123, depth is {wild}; allowed: finite numbers"):
        getattr(detector, method)(x)


def test_a_row_beyond_float32_is_named(detector: Detector) -> None:
    x = rows().astype(np.float64)
    x[7, 0] = 1e300
    with pytest.raises(InputError, match="row 7"):
        detector.score(x)


def test_score_rows_gives_nan_to_rows_with_nan_only(detector: Detector) -> None:
    x = rows()
    x[[3, 200], 1] = np.nan
    found = detector.score_rows(x, batch_size=64)
    assert list(np.flatnonzero(np.isnan(found))) == [3, 200]
    np.testing.assert_allclose(
        np.delete(found, [3, 200]), np.delete(detector.score(rows()), [3, 200]), rtol=1e-5
    )


@pytest.mark.parametrize("size", [0, -1])
def test_a_bad_batch_size_is_named(detector: Detector, size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size is {size}; allowed: at least 1"):
        detector.score(rows(), batch_size=size)


def test_rows_of_another_width_are_named(detector: Detector) -> None:
    with pytest.raises(InputError, match=r"rows have shape \[300, 4\]; allowed: \[rows, 5\]"):
        detector.score(rows()[:, :4])


def test_a_score_is_the_mean_error_of_the_reconstruction(detector: Detector) -> None:
    scaled, found = (part.astype(np.float64) for part in detector.reconstruct(rows()))
    np.testing.assert_allclose(detector.score(rows()), np.square(scaled - found).mean(1), rtol=1e-5)
    held = np.asarray(detector.scaler.shift), np.asarray(detector.scaler.factor)
    np.testing.assert_allclose(scaled, (rows() - held[0]) * held[1], rtol=1e-5, atol=1e-6)


def test_explanations_are_errors_over_usual_ones_by_name(detector: Detector) -> None:
    scaled, found = (part.astype(np.float64) for part in detector.reconstruct(rows()))
    errors = np.square(scaled - found)
    usual = np.asarray(detector.usual_errors, np.float64)
    for row, reasons in enumerate(detector.explain(rows(), top=3, batch_size=64)):
        assert reasons[0].feature == NAMES[np.argmax(errors[row] / np.sqrt(usual))]
        named = [NAMES.index(reason.feature) for reason in reasons]
        assert len(set(named)) == 3
        np.testing.assert_allclose(
            [reason.error for reason in reasons], errors[row, named], rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose([reason.usual for reason in reasons], usual[named], rtol=1e-6)


def test_usual_errors_are_those_of_held_out_rows(detector: Detector) -> None:
    _, held = batches.validation_split(len(rows()), CONFIG.train.validation_fraction, 0)
    scaled, found = (part.astype(np.float64) for part in detector.reconstruct(rows()[held]))
    np.testing.assert_allclose(
        detector.usual_errors,  # type: ignore[arg-type]
        np.square(scaled - found).mean(axis=0),
        rtol=1e-4,
    )


def test_a_spoilt_feature_is_what_the_explanation_names(detector: Detector) -> None:
    scaled = aejax.fit(
        dataclasses.replace(CONFIG, train=Train(epochs=100, batch_size=64, learning_rate=0.01)),
        rows(),
    )
    x = rows(50, seed=1)
    spoilt = np.arange(50) % 5
    x[np.arange(50), spoilt] += 30 * x.std(0)[spoilt]
    named = [reasons[0].feature for reasons in scaled.explain(x, top=1)]
    assert np.mean([name == f"feature[{i}]" for name, i in zip(named, spoilt, strict=True)]) > 0.9


@pytest.mark.parametrize("top", [0, 6])
def test_a_bad_top_is_named(detector: Detector, top: int) -> None:
    with pytest.raises(InputError, match=f"top is {top}; allowed: 1 to 5 features"):
        detector.explain(rows(), top=top)


def test_encode_does_not_depend_on_the_batch(detector: Detector) -> None:
    latent = detector.encode(rows())
    assert latent.shape == (N, 2)
    np.testing.assert_allclose(detector.encode(rows(), batch_size=7), latent, rtol=1e-4, atol=1e-6)


class TestThreshold:
    def test_it_is_set_on_the_rows_held_out(self, detector: Detector) -> None:
        assert detector.threshold is not None
        assert detector.threshold.rows == round(0.1 * N)
        assert detector.threshold.rule == CONFIG.rule

    def test_calibrate_changes_the_threshold_only(self, detector: Detector) -> None:
        before = detector.threshold
        found = detector.calibrate(rows(200, seed=1), rule=MeanStd(k=2.0))
        assert detector.threshold == before
        scores = detector.score(rows(200, seed=1)).astype(np.float64)
        assert found.threshold is not None
        assert found.threshold.value == pytest.approx(scores.mean() + 2 * scores.std(), rel=1e-9)
        assert found.threshold.rule == MeanStd(k=2.0)
        assert found.threshold.rows == 200
        assert dataclasses.replace(found, threshold=before) == detector
        assert found.variables is detector.variables
        assert found.fingerprint == detector.fingerprint
        np.testing.assert_array_equal(found.score(rows()), detector.score(rows()))

    def test_flags_are_scores_above_the_threshold(self, detector: Detector) -> None:
        found = detector.calibrate(rows(), rule=Quantile(q=0.75))
        assert found.threshold is not None
        flags = found.predict(rows())
        np.testing.assert_array_equal(
            flags, found.score(rows()) > np.float32(found.threshold.value)
        )
        assert flags.mean() == pytest.approx(0.25, abs=0.01)

    def test_without_one_predict_says_so(self, detector: Detector) -> None:
        bare = dataclasses.replace(detector, threshold=None)
        with pytest.raises(InputError, match="the detector has no threshold; allowed: calibrate"):
            bare.predict(rows())

    def test_no_rows_to_calibrate_on(self, detector: Detector) -> None:
        with pytest.raises(InputError, match="calibration scores: found 0"):
            detector.calibrate(rows(0))


def test_saved_and_loaded_it_scores_with_the_same_bits(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "detector")
    found = aejax.load(tmp_path / "detector")
    np.testing.assert_array_equal(found.score(rows()), detector.score(rows()))
    np.testing.assert_array_equal(found.predict(rows()), detector.predict(rows()))
    assert found.explain(rows(3)) == detector.explain(rows(3))
    assert found.fingerprint == detector.fingerprint
    assert found.threshold == detector.threshold
    assert found.history == detector.history
    found.save(tmp_path / "again")
    texts = [(tmp_path / name / "detector.json").read_text() for name in ("detector", "again")]
    assert texts[0] == texts[1]


def test_fingerprint_tells_detectors_apart(detector: Detector) -> None:
    others = [
        dataclasses.replace(detector, config=dataclasses.replace(CONFIG, error="absolute")),
        dataclasses.replace(detector, config=dataclasses.replace(CONFIG, precision="bfloat16")),
        dataclasses.replace(detector, scaler=detector.scaler._replace(limit=np.float32(3))),
        dataclasses.replace(detector, schema=Schema(shape=(5,))),
    ]
    assert len({found.fingerprint for found in [detector, *others]}) == 5
    assert dataclasses.replace(detector, threshold=None).fingerprint == detector.fingerprint


def test_bfloat16_scores_rank_as_float32_scores(detector: Detector) -> None:
    from scipy.stats import spearmanr

    config = dataclasses.replace(CONFIG, precision="bfloat16")
    found = dataclasses.replace(detector, config=config).score(rows(2000))
    expected = detector.score(rows(2000))
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    assert spearmanr(found, expected).statistic > 0.999


class TestFit:
    def test_the_same_seed_gives_the_same_detector(self, detector: Detector) -> None:
        again = aejax.fit(CONFIG, pd.DataFrame(rows(), columns=list(NAMES)))
        assert again.fingerprint == detector.fingerprint
        assert again.threshold == detector.threshold

    def test_wild_rows_are_named(self) -> None:
        x = rows()
        x[5, 1] = np.nan
        with pytest.raises(InputError, match=r"row 5, feature\[1\] is nan"):
            aejax.fit(CONFIG, x)
        with pytest.raises(InputError, match=r"row 5, feature\[1\] is nan"):
            aejax.fit(CONFIG, rows(), x_validation=x)
        with pytest.raises(InputError, match=r"row 5, feature\[1\] is nan"):
            aejax.fit(CONFIG, rows(), x_scale=x)

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_rows(self, n: int) -> None:
        with pytest.raises(InputError, match=f"training rows: found {n}; allowed: at least 2"):
            aejax.fit(CONFIG, rows(n))

    def test_two_rows_are_enough(self) -> None:
        found = aejax.fit(CONFIG, rows(2))
        assert found.threshold is not None
        assert found.threshold.rows == 1

    def test_validation_rows_that_are_given(self) -> None:
        found = aejax.fit(CONFIG, rows(), x_validation=rows(50, seed=1))
        assert found.threshold is not None
        assert found.threshold.rows == N
        assert found.provenance["training_rows"] == N
        assert "validation_loss" in found.history[-1]

    def test_the_scaler_can_be_fitted_on_other_rows(self) -> None:
        found = aejax.fit(CONFIG, rows(), x_scale=rows() * np.float32(3) + np.float32(1))
        np.testing.assert_allclose(
            found.scaler.shift, (rows() * 3 + 1).mean(0), rtol=1e-4, atol=1e-5
        )

    def test_scaling_rows_have_the_stored_type(self) -> None:
        """Whole numbers in a wider type must not change what "unit" means."""
        images = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
        config = dataclasses.replace(CONFIG, scale=Scale(kind="unit"))
        schema = Schema(shape=(6,), dtype="uint8")
        found = aejax.fit(config, images, schema=schema, x_scale=images.astype(np.int64))
        np.testing.assert_allclose(found.scaler.factor, 1 / 255)

    def test_a_constant_column_trains_and_scores(self) -> None:
        x = rows()
        x[:, 3] = 7.7
        found = aejax.fit(CONFIG, x)
        assert np.isfinite(found.score(x)).all()


def test_bytes_and_their_values_as_numbers_score_alike() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    config = plain_config(
        model=Dense(hidden=(4,)), scale=Scale(kind="unit"), train=Train(epochs=1, batch_size=16)
    )
    found = aejax.fit(config, images)
    assert found.schema == Schema(shape=(4, 4, 1), dtype="uint8", kind="image")
    np.testing.assert_array_equal(found.score(images.astype(np.float64)), found.score(images))
    with pytest.raises(InputError, match=r"rows hold 0.* allowed: whole numbers"):
        found.score(images / 255.0)


def test_digits_are_separated_from_another_digit_better_than_by_pca() -> None:
    """One digit is normal, the nine others are not; PCA of the same latent size is the peer."""
    images, labels = load_digits(return_X_y=True)
    ours, theirs = [], []
    for normal in (0, 1, 4):
        inside = images[labels == normal].astype(np.float32)
        train, test = inside[::2], inside[1::2]
        outside = images[labels != normal].astype(np.float32)
        x = np.concatenate([test, outside])
        truth = np.arange(len(x)) >= len(test)
        config = plain_config(
            model=Dense(hidden=(32, 8), activation="tanh"),
            scale=Scale(kind="min-max-all"),
            train=Train(
                epochs=300,
                batch_size=32,
                optimizer="adamw",
                learning_rate=3e-3,
                schedule="cosine",
                validation_fraction=0.0,
            ),
        )
        ours.append(roc_auc_score(truth, aejax.fit(config, train).score(x)))
        peer = PCA(8).fit(train)
        gap = np.square(x - peer.inverse_transform(peer.transform(x))).mean(1)
        theirs.append(roc_auc_score(truth, gap))
    assert np.mean(theirs) > 0.9, "the peer itself fails: the test says nothing"
    assert np.mean(ours) > 0.95, (ours, theirs)
    assert np.mean(ours) > np.mean(theirs) - 0.02, (ours, theirs)
