"""The host loop: both feeds, early stopping, files, and going on after any interruption."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

import aejax
from aejax.config import Dense, InputError, Train
from aejax.core import optimizers, scaling, steps
from aejax.data import batches
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training import feeding, loop
from aejax.training.loop import Diverged, Interrupted, Trained
from tests.plain import plain_config

FEATURES = 6
ROWS = 70
BATCH = 8
# Everything that a resumed run could get wrong: dropout, noise, batch statistics, early
# stopping, a schedule, and a ragged last batch.
RICH: dict[str, Any] = {
    "epochs": 4,
    "batch_size": BATCH,
    "noise": 0.1,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "schedule": "warmup-cosine",
    "learning_rate": 0.01,
    "patience": 3,
    "seed": 5,
}
RICH_MODEL = Dense(hidden=(5, 3), batch_norm=True, dropout=0.2)


def rows(n: int = ROWS, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(2, FEATURES))
    noise = 0.1 * random.normal(size=(n, FEATURES))
    return (random.normal(size=(n, 2)) @ mixing + noise).astype(np.float32)


def run(
    model: Dense = RICH_MODEL,
    *,
    x: Any = None,
    x_validation: np.ndarray | None = None,
    options: dict[str, Any] | None = None,
    **train: Any,
) -> Trained:
    config = plain_config(model=model, train=Train(**train))
    x = rows() if x is None else x
    return loop.train(
        config,
        build(model, Schema(shape=(FEATURES,))),
        scaling.fit(config.scale, [rows()], np.dtype(np.float32)),
        x,
        rows(20, seed=1) if x_validation is None else x_validation,
        shape=(FEATURES,),
        **(options or {}),
    )


def losses(history: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("epoch", "loss", "validation_loss", "learning_rate", "rows")
    return [tuple(row.get(name) for name in names) for row in history]


def assert_same_bits(found: Trained, expected: Trained) -> None:
    assert losses(found.history) == losses(expected.history)
    assert found.best_epoch == expected.best_epoch
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)


def stop_after(calls: int) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= calls

    return should_stop


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of 9 steps in 3 segments on the device and 5 in the stream."""
    monkeypatch.setattr(feeding, "STEPS_ON_DEVICE", 3)
    monkeypatch.setattr(feeding, "STEPS_IN_STREAM", 2)


def test_the_two_feeds_give_the_same_run(short_segments: None) -> None:
    device, stream = (run(**RICH, feed=feed) for feed in ("device", "stream"))
    assert [row["rows"] for row in device.history] == [ROWS] * 4
    assert device.best_epoch == stream.best_epoch
    np.testing.assert_allclose(losses(device.history), losses(stream.history), rtol=1e-4, atol=1e-6)
    # Biases before a BatchNorm have no gradient but rounding, which AdamW makes steps of.
    scores = []
    for trained in (device, stream):
        scorer = steps.Scorer(model=build(RICH_MODEL, Schema(shape=(FEATURES,))), error="squared")
        scaler = scaling.fit(plain_config().scale, [rows()], np.dtype(np.float32))
        scores.append(steps.compiled_score(scorer, trained.variables, scaler, rows()))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_the_two_feeds_give_the_same_parameters() -> None:
    plain = {"epochs": 3, "batch_size": BATCH, "noise": 0.1}
    device, stream = (
        run(Dense(hidden=(5, 3), dropout=0.2), **plain, feed=feed) for feed in ("device", "stream")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        device.variables,
        stream.variables,
    )


@pytest.mark.parametrize("feed", ["device", "stream"])
def test_how_an_epoch_is_cut_changes_nothing(feed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"epochs": 2, "batch_size": BATCH, "noise": 0.1, "feed": feed}
    model = Dense(hidden=(5, 3), dropout=0.2)
    whole = run(model, **settings)
    monkeypatch.setattr(feeding, "STEPS_ON_DEVICE", 4)
    monkeypatch.setattr(feeding, "STEPS_IN_STREAM", 4)
    cut = run(model, **settings)
    np.testing.assert_allclose(losses(cut.history), losses(whole.history), rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        cut.variables,
        whole.variables,
    )


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, again = run(**RICH), run(**RICH)
    assert_same_bits(again, first)
    other = run(**{**RICH, "seed": 6})
    assert losses(other.history)[0] != losses(first.history)[0]


def test_training_learns() -> None:
    model = Dense(hidden=(8, 2), activation="tanh")
    found = run(model, epochs=60, batch_size=16, learning_rate=0.01)
    assert found.history[-1]["loss"] < 0.2 * found.history[0]["loss"]
    assert found.best_epoch is None


def test_loss_of_an_epoch_is_the_mean_over_rows_not_over_batches() -> None:
    """With a rate of almost 0 every step has the fresh model's loss on its own rows."""
    found = run(Dense(hidden=(4,)), epochs=1, batch_size=64, learning_rate=1e-30)
    config = plain_config(model=Dense(hidden=(4,)), train=Train(epochs=1))
    model = build(config.model, Schema(shape=(FEATURES,)))
    values = optimizers.numbers(config, 1)
    program = steps.program_of(config, model)
    state = steps.compiled_new_state(program, (FEATURES,), values)
    scaler = scaling.fit(config.scale, [rows()], np.dtype(np.float32))
    scores = steps.compiled_score(
        steps.Scorer(model=model, error="squared"), state.variables, scaler, rows()
    )
    np.testing.assert_allclose(
        found.history[0]["loss"], np.asarray(scores, np.float64).mean(), rtol=1e-5
    )


def test_learning_rate_of_the_history_is_that_of_an_epochs_last_step() -> None:
    found = run(epochs=4, batch_size=BATCH, schedule="linear", learning_rate=0.5)
    per_epoch = math.ceil(ROWS / BATCH)
    expected = [0.5 * (1 - (e * per_epoch - 1) / (4 * per_epoch)) for e in (1, 2, 3, 4)]
    np.testing.assert_allclose([row["learning_rate"] for row in found.history], expected, rtol=1e-5)


class TestEarlyStopping:
    # A high rate makes the validation loss go up and down.
    WILD: ClassVar[dict[str, Any]] = {
        "epochs": 40,
        "batch_size": 8,
        "learning_rate": 0.1,
        "seed": 1,
    }

    @pytest.mark.parametrize("patience", [1, 3])
    def test_stops_after_patience_and_restores_the_best(self, patience: int) -> None:
        model = Dense(hidden=(5, 3))
        full = run(model, **self.WILD).history
        found = run(model, **self.WILD, patience=patience)
        best, waited, stop = 0, 0, len(full)
        for epoch, row in enumerate(full[1:], start=1):
            if row["validation_loss"] < full[best]["validation_loss"]:
                best, waited = epoch, 0
            else:
                waited += 1
            if waited == patience:
                stop = epoch + 1
                break
        assert stop < len(full), "this run would not have stopped: the test says nothing"
        assert losses(found.history) == losses(full[:stop])
        assert found.best_epoch == best
        config = plain_config(model=model, train=Train(**self.WILD))
        again = steps.compiled_validation_loss(
            steps.program_of(config, build(model, Schema(shape=(FEATURES,)))),
            found.variables,
            *batches.tiles(rows(20, seed=1), 8),
            scaling.fit(config.scale, [rows()], np.dtype(np.float32)),
            optimizers.numbers(config, 1),
        )
        np.testing.assert_allclose(again, full[best]["validation_loss"], rtol=1e-5)

    def test_without_patience_the_last_parameters_are_kept(self) -> None:
        found = run(Dense(hidden=(5, 3)), **{**self.WILD, "epochs": 3})
        assert len(found.history) == 3
        assert found.best_epoch is None

    def test_patience_without_validation_rows_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"Train\.patience is set but there are no validation"):
            run(x_validation=np.zeros((0, FEATURES), np.float32), epochs=1, patience=1)


@pytest.mark.parametrize("feed", ["device", "stream"])
@pytest.mark.parametrize("n", [1, 5])
def test_fewer_rows_than_a_batch_train(n: int, feed: str) -> None:
    found = run(x=rows(n), epochs=2, batch_size=16, feed=feed)
    assert [row["rows"] for row in found.history] == [n, n]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.variables))


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="training rows: found 0; allowed: at least 1"):
        run(x=rows(0), epochs=1)


def test_rows_that_are_not_an_array_are_streamed_only() -> None:
    class Source:
        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, picked: np.ndarray, /) -> np.ndarray:
            return rows()[picked]

    settings = {"epochs": 2, "batch_size": 16}
    model = Dense(hidden=(4,))
    with pytest.raises(InputError, match=r"Train\.feed is 'device' but rows are not an array"):
        run(model, x=Source(), **settings, feed="device")
    assert_same_bits(
        run(model, x=Source(), **settings, feed="auto"), run(model, **settings, feed="stream")
    )


class TestDivergence:
    @pytest.mark.parametrize("feed", ["device", "stream"])
    def test_names_the_step(self, feed: str) -> None:
        """Row 41 overflows; the order says in which step it is met."""
        x = rows()
        x[41] = 1e30
        order = np.concatenate([batches.epoch_order(ROWS, BATCH, 0, epoch) for epoch in (0, 1)])
        step = int(np.flatnonzero((order == 41).any(1))[0]) + 1
        with pytest.raises(Diverged, match=rf"the loss became inf at step {step} \(epoch 1\)"):
            run(Dense(hidden=(4,)), x=x, epochs=2, batch_size=BATCH, feed=feed)

    def test_is_noticed_after_the_last_step_too(self) -> None:
        """The only step's loss is that of the fresh model; what it leaves overflows."""
        with pytest.raises(Diverged, match=r"became (inf|nan) after step 1 \(epoch 1\)"):
            run(Dense(hidden=(4,)), epochs=1, batch_size=128, learning_rate=1e30)

    def test_leaves_no_checkpoint_of_it(self, tmp_path: Path) -> None:
        x = rows()
        x[41] = 1e30
        with pytest.raises(Diverged):
            run(
                Dense(hidden=(4,)),
                x=x,
                epochs=2,
                batch_size=BATCH,
                options={"folder": tmp_path, "checkpoint_seconds": 0},
            )
        assert not [entry for entry in (tmp_path / "checkpoints").iterdir() if entry.is_dir()]


class TestFiles:
    def test_without_a_folder_nothing_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        run(epochs=1, batch_size=BATCH)
        assert not list(tmp_path.iterdir())

    def test_history_lines_are_the_history(self, tmp_path: Path) -> None:
        found = run(**RICH, options={"folder": tmp_path})
        lines = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == found.history
        assert [row["epoch"] for row in found.history] == [1, 2, 3, 4]
        assert sum(row["seconds"] for row in found.history) > 0

    def test_a_run_that_left_no_checkpoint_leaves_no_lines_either(self, tmp_path: Path) -> None:
        (tmp_path / "history.jsonl").write_text('{"epoch": 1, "loss": 0}\n{"epoch": 2}\n')
        found = run(**RICH, options={"folder": tmp_path})
        lines = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == found.history

    def test_event_files_hold_what_the_history_holds(self, tmp_path: Path) -> None:
        found = run(**RICH, options={"tensorboard": tmp_path / "board"})
        (path,) = (tmp_path / "board").iterdir()
        scalars = read_scalars(path)
        for name in ("loss", "validation_loss", "learning_rate", "rows_per_second"):
            expected = {row["epoch"]: row[name] for row in found.history}
            assert scalars[name] == pytest.approx(expected, rel=1e-6)


def read_scalars(path: Path) -> dict[str, dict[int, float]]:
    """The scalars of an event file: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, position, found = path.read_bytes(), 0, dict[str, dict[int, float]]()
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        event = Event.FromString(data[position + 12 : position + 12 + length])
        position += 12 + length + 4
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


class TestInterruption:
    @pytest.mark.parametrize("feed", [pytest.param("device", marks=pytest.mark.slow), "stream"])
    def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
        self, feed: str, tmp_path: Path, short_segments: None
    ) -> None:
        """Stopped after every number of segments there is: within epochs and at their ends."""
        expected = run(**RICH, feed=feed, options={"folder": tmp_path / "whole"})
        segments = 4 * (3 if feed == "device" else 5)
        for stop in range(1, segments + 1):
            folder = tmp_path / str(stop)
            with pytest.raises(Interrupted, match="stopped in epoch"):
                run(**RICH, feed=feed, options={"folder": folder, "should_stop": stop_after(stop)})
            found = run(**RICH, feed=feed, options={"folder": folder})
            assert_same_bits(found, expected)
            lines = (folder / "history.jsonl").read_text().splitlines()
            assert [json.loads(line) for line in lines] == found.history

    def test_stopped_in_every_segment_anew(self, tmp_path: Path, short_segments: None) -> None:
        expected = run(**RICH)
        options = {"folder": tmp_path, "should_stop": stop_after(1)}
        stops = 0
        while True:
            try:
                found = run(**RICH, options={**options, "should_stop": stop_after(1)})
            except Interrupted:
                stops += 1
                assert stops <= 12, "no progress"
            else:
                break
        assert stops == 12
        assert_same_bits(found, expected)

    def test_with_one_segment_an_epoch(self, tmp_path: Path) -> None:
        expected = run(**RICH)
        for stop in (1, 2, 4):
            folder = tmp_path / str(stop)
            with pytest.raises(Interrupted):
                run(**RICH, options={"folder": folder, "should_stop": stop_after(stop)})
            assert_same_bits(run(**RICH, options={"folder": folder}), expected)

    def test_early_stopping_goes_on_where_it_was(self, tmp_path: Path) -> None:
        settings = {**TestEarlyStopping.WILD, "patience": 2}
        model = Dense(hidden=(5, 3))
        expected = run(model, **settings)
        assert len(expected.history) < settings["epochs"]
        for stop in range(1, len(expected.history) + 1):
            folder = tmp_path / str(stop)
            with pytest.raises(Interrupted):
                run(
                    model,
                    **settings,
                    options={"folder": folder, "should_stop": stop_after(stop)},
                )
            assert_same_bits(run(model, **settings, options={"folder": folder}), expected)

    def test_how_often_checkpoints_are_written_changes_nothing(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        often = {"folder": tmp_path, "checkpoint_seconds": 0}
        assert_same_bits(run(**RICH, options=often), run(**RICH))

    def test_a_finished_run_is_not_trained_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = run(**RICH, options={"folder": tmp_path})

        def fail(*_: Any) -> Any:
            raise AssertionError("trained again")

        monkeypatch.setattr(steps, "compiled_train_steps", fail)
        assert_same_bits(run(**RICH, options={"folder": tmp_path}), expected)

    def test_without_a_folder_it_says_so_and_keeps_nothing(self) -> None:
        with pytest.raises(Interrupted, match="stopped in epoch 1 of 4"):
            run(**RICH, options={"should_stop": lambda: True})


# What Orbax leaves of a load that failed complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestDamage:
    @pytest.fixture(autouse=True)
    def collected(self) -> Iterator[None]:
        yield
        gc.collect()

    def interrupted(self, folder: Path, stop: int = 7) -> list[Path]:
        """Checkpoint folders of a run that was stopped, oldest first."""
        options = {"folder": folder, "checkpoint_seconds": 0, "should_stop": stop_after(stop)}
        with pytest.raises(Interrupted):
            run(**RICH, options=options)
        found = [entry for entry in (folder / "checkpoints").iterdir() if entry.is_dir()]
        return sorted(found, key=lambda entry: int(entry.name))

    def truncate(self, checkpoint: Path) -> None:
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def test_two_checkpoints_are_kept(self, tmp_path: Path, short_segments: None) -> None:
        assert [path.name for path in self.interrupted(tmp_path)] == ["18", "21"]

    def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        expected = run(**RICH)
        self.truncate(self.interrupted(tmp_path)[-1])
        assert_same_bits(run(**RICH, options={"folder": tmp_path}), expected)

    @pytest.mark.parametrize("kind", ["largest", "missing", "swapped"])
    def test_one_damaged_file_is_enough(
        self, kind: str, tmp_path: Path, short_segments: None
    ) -> None:
        expected = run(**RICH)
        newest = self.interrupted(tmp_path)[-1]
        files = [path for path in newest.rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        if kind == "largest":
            largest.write_bytes(largest.read_bytes()[:-10])
        elif kind == "missing":
            largest.unlink()
        else:
            data = bytearray(largest.read_bytes())
            data[len(data) // 2] ^= 0xFF
            largest.write_bytes(bytes(data))
        assert_same_bits(run(**RICH, options={"folder": tmp_path}), expected)

    def test_after_falling_back_progress_is_kept_again(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        """The damaged checkpoint must not stand in the way of the next one of its step."""
        self.truncate(self.interrupted(tmp_path)[-1])
        before, again = self.interrupted(tmp_path, stop=1)
        assert (before.name, again.name) == ("18", "21")
        shutil.rmtree(before)
        assert_same_bits(run(**RICH, options={"folder": tmp_path}), run(**RICH))

    def test_no_readable_checkpoint_is_an_input_error(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        for checkpoint in self.interrupted(tmp_path):
            self.truncate(checkpoint)
        with pytest.raises(InputError, match="no checkpoint can be read"):
            run(**RICH, options={"folder": tmp_path})

    def test_checkpoints_of_another_model_are_refused_and_kept(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        before = [path.name for path in self.interrupted(tmp_path)]
        history = (tmp_path / "history.jsonl").read_text()
        with pytest.raises(InputError, match=r"numbers.dropout is '0.2' there"):
            run(Dense(hidden=(9, 3)), **RICH, options={"folder": tmp_path})
        assert {path.name for path in (tmp_path / "checkpoints").iterdir()} >= set(before)
        assert (tmp_path / "history.jsonl").read_text() == history

    def test_what_a_killed_save_left_is_no_checkpoint(
        self, tmp_path: Path, short_segments: None
    ) -> None:
        newest = self.interrupted(tmp_path)[-1]
        newest.rename(newest.with_name(f"{newest.name}.orbax-checkpoint-tmp"))
        assert_same_bits(run(**RICH, options={"folder": tmp_path}), run(**RICH))


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    config = plain_config(train=aejax.Train(epochs=1, batch_size=8))
    aejax.fit(config, x, folder=tmp_path)
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=1))
    for again, rows in ((other, x), (config, x + 1)):
        with pytest.raises(aejax.InputError, match="checkpoints of another run"):
            aejax.fit(again, rows, folder=tmp_path)
    aejax.fit(config, x, folder=tmp_path)
