"""What compiles, and how often: numbers are arguments, shapes are few, no copy goes unseen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest

import aejax
from aejax.config import Config, Dense, InputError, Scale, Train
from aejax.core import steps
from aejax.training import feeding, loop
from tests.plain import plain_config

COMPILED = {
    name: getattr(steps, name) for name in sorted(vars(steps)) if name.startswith("compiled_")
}


@contextmanager
def traces() -> Iterator[dict[str, int]]:
    """Programs that each compiled function gained, by name; filled when the block ends."""
    before = {name: function.programs() for name, function in COMPILED.items()}
    gained: dict[str, int] = {}
    yield gained
    gained.update(
        {
            name: count
            for name, function in COMPILED.items()
            if (count := function.programs() - before[name])
        }
    )


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Every backend compilation in the block, eager operations included."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **more: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(str(more))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    jax.clear_caches()


def rows(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)


BASE = plain_config(
    model=Dense(hidden=(3,)),
    scale=Scale(clip=4.0),
    train=Train(
        epochs=2,
        batch_size=16,
        noise=0.1,
        clip_norm=1.0,
        patience=2,
        optimizer="adamw",
        schedule="cosine",
    ),
)


@pytest.mark.parametrize("feed", ["device", "stream"])
def test_a_second_fit_with_other_numbers_compiles_nothing(feed: str) -> None:
    def config(dropout: float, **train: Any) -> Config:
        model = Dense(hidden=(3,), dropout=dropout)
        own = dataclasses.replace(BASE.train, feed=feed, **train)
        return dataclasses.replace(BASE, model=model, train=own)

    aejax.fit(config(0.1), rows())
    with traces() as gained, compilations() as seen:
        aejax.fit(
            dataclasses.replace(
                config(
                    dropout=0.3,
                    seed=7,
                    learning_rate=0.05,
                    noise=0.5,
                    clip_norm=0.2,
                    weight_decay=0.1,
                    patience=1,
                ),
                scale=Scale(clip=5.0),
                rule=aejax.MeanStd(k=2.0),
            ),
            rows() * np.float32(2),
        )
    assert gained == {}
    assert seen == []


def test_another_structure_is_noticed() -> None:
    """The counters above do count."""
    aejax.fit(BASE, rows())
    with traces() as gained, compilations() as seen:
        aejax.fit(dataclasses.replace(BASE, model=Dense(hidden=(2,))), rows())
    assert gained["compiled_train_steps"] == 1
    assert seen


@pytest.mark.parametrize("n", [45, 50, 64, 7])
@pytest.mark.parametrize("feed", ["device", "stream"])
def test_training_with_a_ragged_tail_compiles_each_function_once(feed: str, n: int) -> None:
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, feed=feed))
    with traces() as gained:
        aejax.fit(config, rows(n))
    step = "compiled_train_steps" if feed == "device" else "compiled_train_step"
    assert gained == {
        "compiled_feature_error": 1,
        "compiled_keep_best": 1,
        "compiled_learning_rates": 1,
        "compiled_new_best": 1,
        "compiled_reconstruct": 1,
        "compiled_score": 1,
        step: 1,
        "compiled_validation_loss": 1,
    }


def test_a_resumed_epoch_compiles_no_more_than_a_whole_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "STEPS_ON_DEVICE", 1)
    asked: list[int] = []
    with pytest.raises(loop.Interrupted):
        aejax.fit(BASE, rows(), folder=tmp_path, should_stop=lambda: bool(asked.append(0)) or True)
    with traces() as gained:
        aejax.fit(BASE, rows(), folder=tmp_path)
    assert "compiled_train_steps" not in gained


def test_scoring_any_number_of_rows_uses_one_program() -> None:
    detector = aejax.fit(BASE, rows())
    jax.clear_caches()
    with compilations() as compiled:
        for n in (1, 7, 64, 1000, 0, 65):
            assert detector.score(rows(n), batch_size=64).shape == (n,)
            detector.predict(rows(n), batch_size=64)
    assert len(compiled) == 1


def test_few_rows_use_few_programs() -> None:
    detector = aejax.fit(BASE, rows())
    jax.clear_caches()
    with compilations() as compiled:
        for n in (0, 1, 4, 5, 31, 32, 255, 256, 2_047, 2_048, 16_383, 16_384, 40_000):
            assert detector.score(rows(n)).shape == (n,)
    assert len(compiled) == 6


def test_a_loaded_and_a_recalibrated_detector_use_the_same_program(tmp_path: Any) -> None:
    detector = aejax.fit(BASE, rows())
    detector.save(tmp_path / "detector")
    detector.score(rows())
    with traces() as gained:
        detector.calibrate(rows(), rule=aejax.Quantile(q=0.5)).predict(rows())
        aejax.load(tmp_path / "detector").score(rows())
    assert gained == {}


@pytest.mark.parametrize("feed", ["device", "stream"])
def test_the_whole_fit_copies_nothing_implicitly_to_the_device(feed: str, tmp_path: Any) -> None:
    """On a CPU the guard sees copies to the device only; what is fetched is fetched by name."""
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, feed=feed))
    guards: list[str] = []
    inside = steps.compiled_validation_loss

    def spied(*args: Any) -> Any:
        guards.append(str(jax.config.jax_transfer_guard_host_to_device))
        return inside(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(steps, "compiled_validation_loss", spied)
        aejax.fit(config, rows(), folder=tmp_path, checkpoint_seconds=0)
    assert guards == ["disallow"] * 2


def test_the_guard_does_guard() -> None:
    scorer_rows = rows()
    detector = aejax.fit(BASE, scorer_rows)
    variables, scaler = jax.device_put((detector.variables, detector.scaler))
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed"):
        steps.compiled_score(detector.scoring, variables, scaler, scorer_rows)


def test_scoring_copies_nothing_implicitly_to_the_device() -> None:
    detector = aejax.fit(BASE, rows())
    with jax.transfer_guard("disallow"):
        detector.score(rows(100), batch_size=16)
        detector.explain_rows(rows(100), top=2, batch_size=16)
        detector.encode(rows(3))


def test_a_row_is_scored_by_the_program_of_a_detectors_copies(tmp_path: Any) -> None:
    """Arrays' trees are looked through once a detector; their programs are shared all the same."""
    detector = aejax.fit(BASE, rows())
    detector.save(tmp_path / "detector")
    loaded = aejax.load(tmp_path / "detector")
    row = rows(1)
    expected = detector.score(row)
    with traces() as gained:
        assert loaded.score(row) == expected
        # The prepared scorer's is the same program, of a batch of one row.
        assert loaded.scorer()(row) == expected
    assert gained == {}
    for wrong, message in ((np.full_like(row, np.nan), "NaN|nan"), (row[:, 1:], "shape")):
        with pytest.raises(InputError, match=message):
            loaded.score(wrong)
