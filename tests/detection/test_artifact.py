"""A folder holds the old detector or the new one, whatever fails, and nothing else loads."""

from __future__ import annotations

import dataclasses
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
from tests.plain import plain_config


def detector_of(seed: int, threshold: float = 1.0) -> Detector:
    config = plain_config(model=aejax.Dense(hidden=(3,), batch_norm=True))
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
    before = arrays_of(folder).stat().st_mtime_ns
    monkeypatch.setattr(artifact, "pack", None)
    detector_of(0, threshold=2.0).save(folder)
    assert_is(aejax.load(folder), detector_of(0, threshold=2.0))
    assert arrays_of(folder).stat().st_mtime_ns == before


def test_numpy_reads_the_arrays_and_nothing_is_pickled(folder: Path) -> None:
    expected = artifact.named(artifact.arrays_of(detector_of(0).scaler, detector_of(0).variables))
    with np.load(arrays_of(folder), allow_pickle=False) as found:
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    assert "variables/params/encoder_layers_0/kernel" in expected


def test_equal_detectors_make_equal_files(folder: Path, tmp_path: Path) -> None:
    detector_of(0).save(tmp_path / "again")
    assert arrays_of(folder).read_bytes() == arrays_of(tmp_path / "again").read_bytes()


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
    (os, "replace", 1),
    (os, "replace", 2),
    (os, "fsync", 1),
    (os, "fsync", 3),
    (Path, "mkdir", 1),
    (artifact, "pack", 1),
    (artifact, "read_arrays", 2),
    (Path, "unlink", 1),
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
    elif name in ("pack", "read_arrays", "mkdir") or (name != "unlink" and call == 1 and not after):
        assert not replaced
    # What a failed attempt left is in nobody's way.
    new.save(folder)
    assert_is(aejax.load(folder), new)
    detector_of(2).save(folder)
    assert_is(aejax.load(folder), detector_of(2))


@pytest.mark.parametrize("lost", ["a value", "an array", "the end", "everything"])
def test_what_cannot_be_read_back_leaves_the_old_detector(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A disk, or what writes to it, that says yes and keeps something else."""
    real = artifact.pack

    def forgetful(file: Any, arrays: dict[str, Any]) -> None:
        name = next(iter(arrays))
        if lost == "a value":
            arrays = {**arrays, name: arrays[name] * 2}
        elif lost == "an array":
            arrays = {other: array for other, array in arrays.items() if other != name}
        real(file, arrays)
        if lost in ("the end", "everything"):
            file.truncate(file.tell() // 2 if lost == "the end" else 0)

    monkeypatch.setattr(artifact, "pack", forgetful)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"arrays-.*npz\.writing") as raised:
        detector_of(1).save(folder)
    assert "\n" not in str(raised.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_half_written_json_is_never_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Aside, **how: Any) -> None:
        self.file.truncate(self.file.tell() // 2)
        self.file.close()
        raise OSError("disk full")

    monkeypatch.setattr(Aside, "commit", half)
    with pytest.raises(InputError, match=r"detector\.json cannot be written: disk full"):
        detector_of(0, threshold=7.0).save(folder)
    with pytest.raises(InputError, match=r"arrays-.* cannot be written: disk full"):
        detector_of(1).save(folder)
    assert_is(aejax.load(folder), detector_of(0))


@pytest.mark.parametrize("version", [4, 1, 2, 0, "3", None, [3], 3.5])
def test_another_format_is_refused(folder: Path, version: Any) -> None:
    edit(folder, format=version)
    with pytest.raises(InputError, match=r"detector\.json: format is .*; allowed: 3"):
        aejax.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../other/arrays-0123456789abcdef.npz",
        "/etc",
        "arrays-0123456789abcdef",
        "arrays-0123456789abcdef.npz/..",
        "arrays-0123456789abcdef.npz\n",
        "arrays-0123456789ABCDEF.npz",
        "arrays-",
        "",
        None,
        ["arrays-0123456789abcdef.npz"],
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(folder: Path, name: Any) -> None:
    (folder.parent / "other").mkdir()
    shutil.copy(arrays_of(folder), folder.parent / "other")
    edit(folder, arrays=name)
    with pytest.raises(InputError, match="allowed: arrays-DIGEST"):
        aejax.load(folder)


def test_missing_arrays_are_named(folder: Path) -> None:
    edit(folder, arrays="arrays-0123456789abcdef.npz")
    with pytest.raises(InputError, match=r"arrays-0123456789abcdef\.npz cannot be read: No such"):
        aejax.load(folder)


def test_arrays_of_another_detector_are_noticed(folder: Path) -> None:
    """Arrays that read well, in the place of those that the description names."""
    detector_of(1).save(folder.parent / "other")
    name = arrays_of(folder)
    shutil.copy(arrays_of(folder.parent / "other"), name)
    with pytest.raises(InputError, match=r"content is arrays-.*; allowed: arrays-.*damaged"):
        aejax.load(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "flip"])
def test_a_damaged_file_is_noticed(folder: Path, damage: str) -> None:
    """Anywhere in the arrays; a detector either loads as it was or not at all."""
    path, noticed = arrays_of(folder), 0
    data = path.read_bytes()
    for place in range(0, len(data), 37):
        changed = bytearray(data)
        changed[place] ^= 0x01
        path.write_bytes({"cut": data[:place], "empty": b"", "flip": bytes(changed)}[damage])
        said = ""
        try:
            assert_is(aejax.load(folder), detector_of(0))
        except InputError as error:
            said = str(error)
        assert "\n" not in said
        noticed += bool(said)
    assert noticed > len(data) / 37 / 4
    # What is damaged is no reason not to write it again.
    detector_of(0, threshold=3.0).save(folder)
    assert_is(aejax.load(folder), detector_of(0, threshold=3.0))


def test_a_model_that_the_arrays_do_not_fit_is_noticed(folder: Path) -> None:
    config = json.loads((folder / artifact.JSON_NAME).read_text())["config"]
    for hidden in ([4], [3, 2]):
        edit(folder, config={**config, "model": {**config["model"], "hidden": hidden}})
        with pytest.raises(InputError, match=r"npz: .*allowed: float32|arrays differ from the"):
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
