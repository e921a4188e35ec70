"""A folder holds the old detector or the new one, whatever fails, and nothing else loads."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import aejax
from aejax.config import InputError
from aejax.config.durable import Aside
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection import artifact
from aejax.detection.detector import Detector
from aejax.detection.threshold import Threshold
from aejax.models.build import build
from aejax.training import checkpoint


def detector_of(seed: int, threshold: float = 1.0) -> Detector:
    config = aejax.Config(model=aejax.Dense(hidden=(3,), batch_norm=True))
    schema = Schema(shape=(4,), names=("a", "b", "c", "d"))
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        build(config.model, schema).module.init, jax.random.key(0), np.zeros((1, 4), np.float32)
    )
    draw = lambda leaf: random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)  # noqa: E731
    return Detector(
        config=config,
        schema=schema,
        scaler=Scaler(*random.normal(size=(2, 4)).astype(np.float32), None),
        variables=jax.tree.map(draw, dict(shapes)),
        threshold=Threshold(value=threshold, rule=aejax.Quantile(), rows=9),
        provenance={"data": "none"},
        history=[{"epoch": 1, "loss": 0.1}],
    )


def assert_is(found: Detector, expected: Detector) -> None:
    assert found.config == expected.config
    assert found.schema == expected.schema
    assert found.threshold == expected.threshold
    assert found.provenance == expected.provenance
    assert found.history == expected.history
    arrays = [(d.scaler._asdict(), d.variables) for d in (found, expected)]
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    assert found.fingerprint == expected.fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds detector 0."""
    detector_of(0).save(tmp_path / "detector")
    return tmp_path / "detector"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / artifact.JSON_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def arrays_of(folder: Path) -> Path:
    (found,) = folder.glob("arrays-*")
    return found


def test_what_is_saved_is_loaded(folder: Path) -> None:
    assert_is(aejax.load(folder), detector_of(0))
    assert_is(aejax.load(str(folder)), detector_of(0))


def test_a_runs_folder_stands_for_its_detector(folder: Path) -> None:
    assert_is(aejax.load(folder.parent), detector_of(0))


def test_a_detector_without_a_threshold(tmp_path: Path) -> None:
    bare = dataclasses.replace(detector_of(0), threshold=None)
    bare.save(tmp_path)
    assert aejax.load(tmp_path).threshold is None


def test_saving_again_replaces_and_leaves_nothing_behind(folder: Path) -> None:
    detector_of(1).save(folder)
    assert_is(aejax.load(folder), detector_of(1))
    assert sorted(entry.name for entry in folder.iterdir()) == [
        arrays_of(folder).name,
        "detector.json",
    ]


def test_a_new_threshold_writes_no_arrays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in arrays_of(folder).rglob("*")}
    monkeypatch.setattr(checkpoint, "save_arrays", None)
    detector_of(0, threshold=2.0).save(folder)
    assert_is(aejax.load(folder), detector_of(0, threshold=2.0))
    assert {path: path.stat().st_mtime_ns for path in arrays_of(folder).rglob("*")} == before


def test_nothing_is_pickled(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            # A pickle of protocol 2 and above starts with these, and ends with a full stop.
            assert not path.read_bytes().startswith(
                (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
            )


class Stop(Exception):
    pass


def failing_at(call: int, function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """The function, but its call number `call` raises: before it has done its work, or after."""
    calls = 0

    def failing(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Stop
        result = function(*args, **more)
        if calls == call:
            raise Stop
        return result

    return failing


PLACES = [
    (Path, "rename", 1),
    (os, "replace", 1),
    (os, "fsync", 1),
    (Path, "mkdir", 1),
    (checkpoint, "save_arrays", 1),
    (shutil, "rmtree", 1),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name", "call"), PLACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_after_any_failure_the_folder_holds_the_old_or_the_new(
    folder: Path,
    owner: Any,
    name: str,
    call: int,
    after: bool,
    seed: int,
) -> None:
    """Seed 0 changes the threshold only; seed 1 replaces everything."""
    old, new = detector_of(0), detector_of(seed, threshold=7.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, failing_at(call, getattr(owner, name), after))
        try:
            new.save(folder)
            failed = False
        except Stop:
            failed = True
    found = aejax.load(folder)
    replaced = found.threshold == new.threshold
    assert_is(found, new if replaced else old)
    if not failed:
        assert replaced
    elif name != "rmtree" and (name, after) != ("replace", True):
        assert not replaced
    # What a failed attempt left is in nobody's way.
    new.save(folder)
    assert_is(aejax.load(folder), new)
    detector_of(2).save(folder)
    assert_is(aejax.load(folder), detector_of(2))


def test_a_half_written_json_is_never_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Aside, **how: Any) -> None:
        self.file.truncate(self.file.tell() // 2)
        self.file.close()
        raise OSError("disk full")

    monkeypatch.setattr(Aside, "commit", half)
    with pytest.raises(InputError, match=r"detector\.json cannot be written: disk full"):
        detector_of(1).save(folder)
    assert_is(aejax.load(folder), detector_of(0))


@pytest.mark.parametrize("version", [2, 0, "1", None, [1]])
def test_another_format_is_refused(folder: Path, version: Any) -> None:
    edit(folder, format=version)
    with pytest.raises(InputError, match=r"detector\.json: format is .*; allowed: 1"):
        aejax.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../other/arrays-0123456789abcdef",
        "/etc",
        "arrays-0123456789abcdef/..",
        "arrays-0123456789abcdef\n",
        "arrays-0123456789ABCDEF",
        "arrays-",
        "",
        None,
        ["arrays-0123456789abcdef"],
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(folder: Path, name: Any) -> None:
    shutil.copytree(arrays_of(folder), folder.parent / "other" / arrays_of(folder).name)
    edit(folder, arrays=name)
    with pytest.raises(InputError, match="allowed: arrays-DIGEST"):
        aejax.load(folder)


def test_missing_arrays_are_named(folder: Path) -> None:
    edit(folder, arrays="arrays-0123456789abcdef")
    with pytest.raises(InputError, match="arrays-0123456789abcdef can't be read"):
        aejax.load(folder)


def test_arrays_of_another_detector_are_noticed(folder: Path) -> None:
    """Arrays that read well, in the place of those that the description names."""
    detector_of(1).save(folder.parent / "other")
    name = arrays_of(folder)
    shutil.rmtree(name)
    shutil.copytree(arrays_of(folder.parent / "other"), name)
    with pytest.raises(InputError, match=r"content is arrays-.*; allowed: arrays-.*damaged"):
        aejax.load(folder)


# What Orbax leaves of a load that failed complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["cut", "empty", "flip"])
def test_a_damaged_file_is_noticed(folder: Path, damage: str) -> None:
    """Every file of the arrays in turn; a detector either loads as it was or not at all."""
    noticed = 0
    for path in [path for path in arrays_of(folder).rglob("*") if path.is_file()]:
        data = path.read_bytes()
        changed = bytearray(data)
        if data:
            changed[len(data) // 2] ^= 0x01
        path.write_bytes(
            {"cut": data[: len(data) // 2], "empty": b"", "flip": bytes(changed)}[damage]
        )
        try:
            found = aejax.load(folder)
        except InputError as error:
            noticed += 1
            message = str(error)
        else:
            assert_is(found, detector_of(0))
            message = ""
        assert "\n" not in message
        path.write_bytes(data)
    assert noticed >= 1
    assert_is(aejax.load(folder), detector_of(0))
    gc.collect()


def test_a_model_that_the_arrays_do_not_fit_is_noticed(folder: Path) -> None:
    config = json.loads((folder / artifact.JSON_NAME).read_text())["config"]
    for hidden in ([4], [3, 2]):
        edit(folder, config={**config, "model": {**config["model"], "hidden": hidden}})
        with pytest.raises(InputError, match="can't be read as the arrays of this detector"):
            aejax.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"config": {"trian": {}}},
        {"schema": None},
        {"schema": {"shape": [4], "dtype": "float32", "names": ["a"], "kind": "table"}},
        {"schema": {"shape": ["4"], "dtype": "float32", "names": None, "kind": "table"}},
        {"schema": {"shape": [1 << 40], "dtype": "float32", "names": None, "kind": "table"}},
        {"threshold": 3},
        {"threshold": {}},
        {"provenance": None},
        {"history": None},
    ],
)
def test_a_damaged_description_is_an_input_error(folder: Path, changes: dict[str, Any]) -> None:
    edit(folder, **changes)
    with pytest.raises(InputError):
        aejax.load(folder)


@pytest.mark.parametrize("field", ["config", "schema", "threshold", "provenance", "history"])
def test_a_missing_part_is_an_input_error(folder: Path, field: str) -> None:
    path = folder / artifact.JSON_NAME
    written = json.loads(path.read_text())
    del written[field]
    path.write_text(json.dumps(written))
    with pytest.raises(InputError, match=field):
        aejax.load(folder)


def test_no_detector_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no detector \(detector\.json is missing\)"):
        aejax.load(tmp_path)
    with pytest.raises(InputError, match="holds no detector"):
        aejax.load(tmp_path / "nowhere")


def test_the_digest_tells_names_types_shapes_and_values_apart() -> None:
    x = np.arange(6, dtype=np.float32)
    trees: list[Any] = [
        {"a": x},
        {"b": x},
        {"a": x.astype(np.float64)},
        {"a": x.reshape(2, 3)},
        {"a": x.reshape(3, 2)},
        {"a": x + 1},
        {"a": x, "b": x},
        {"a": {"a": x}},
    ]
    assert len({artifact.digest(tree) for tree in trees}) == len(trees)
    assert artifact.digest({"a": x}) == artifact.digest({"a": jax.numpy.asarray(x)})
