"""Ensembles and groups do what one detector does: each method, next to the networks one by one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

import aejax
from aejax import BestF1, Conformal, Quantile
from aejax.config import Columns, Config, Dense, InputError, Scale, Train
from aejax.detection.detector import Detector
from aejax.detection.threshold import fit_threshold
from tests.compiled_calls import before_each
from tests.plain import plain_config

CONFIG = plain_config(
    model=Dense(hidden=(4, 2)),
    train=Train(epochs=3, batch_size=32, learning_rate=5e-3, validation_fraction=0.5),
    scale=Scale(kind="standard"),
    rule=Conformal(alpha=0.1),
)
NAMES = ("north", "south", "west")
ROUTES = ("one", "vote", "groups")


def rows(count: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three groups, each at a place of its own."""
    random = np.random.default_rng(seed)
    names = np.array(NAMES)[np.arange(count) % 3]
    x = random.normal(size=(count, 2)) @ np.random.default_rng(99).normal(size=(2, 5))
    x += 0.1 * random.normal(size=x.shape) + 5 * (np.arange(count) % 3)[:, None]
    return x.astype(np.float32), names


X, GROUPS = rows()
TEST, OF_TEST = rows(60, seed=1)
TEST[::5] += 3 * np.random.default_rng(2).normal(size=TEST[::5].shape).astype(np.float32)
LABELS = np.arange(60) % 5 == 0


def fitted(route: str, config: Config = CONFIG) -> Detector:
    how: dict[str, Any] = {"one": {}, "vote": {"members": 3}, "groups": {"groups": GROUPS}}[route]
    return aejax.fit(config, X, **how)


def own(route: str, groups: Any = OF_TEST) -> dict[str, Any]:
    """What a detector of a route needs to know of rows besides."""
    return {"groups": groups} if route == "groups" else {}


def places(detector: Detector, groups: Any = OF_TEST) -> dict[str, Any]:
    """The same, of rows that were prepared."""
    return (
        {} if detector.groups is None else {"members": detector.groups.members(groups, len(groups))}
    )


@pytest.fixture(scope="module")
def trained() -> dict[str, Detector]:
    return {route: fitted(route) for route in ROUTES}


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def detector(trained: dict[str, Detector], route: str) -> Detector:
    return trained[route]


def alone(detector: Detector, method: Callable[[Detector, np.ndarray], np.ndarray]) -> np.ndarray:
    """What the networks one by one give: each its group's rows, or the mean of a vote's."""
    if detector.groups is None:
        members = [detector.member(at) for at in range(detector.members)]
        return np.mean([method(member, TEST) for member in members], axis=0)
    parts = {name: method(detector.member(name), TEST[name == OF_TEST]) for name in NAMES}
    found = np.zeros((len(TEST), *parts["north"].shape[1:]), parts["north"].dtype)
    for name, part in parts.items():
        found[name == OF_TEST] = part
    return found


def forward(detector: Detector, x: np.ndarray) -> np.ndarray:
    """Scores of a single dense network, in float64."""
    scaler, params = detector.scaler, detector.variables["params"]
    wanted = (np.float64(x) - np.float64(scaler.shift)) * np.float64(scaler.factor)
    hidden = wanted
    for name in ("encoder_layers_0", "encoder_layers_1", "decoder_layers_0"):
        layer = params[name]
        hidden = hidden @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
        hidden = np.maximum(hidden, 0)
    layer = params["output_layer"]
    hidden = hidden @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
    return np.asarray(((wanted - hidden) ** 2).mean(axis=1))


def test_scores_are_those_that_numpy_computes(trained: dict[str, Detector]) -> None:
    np.testing.assert_allclose(trained["one"].score(TEST), forward(trained["one"], TEST), rtol=1e-4)
    for route in ("vote", "groups"):
        found = trained[route].score(TEST, **own(route))
        np.testing.assert_allclose(found, alone(trained[route], forward), rtol=1e-4)


METHODS: dict[str, Callable[..., Any]] = {
    "score": lambda detector, x, **how: detector.score(x, **how),
    "errors": lambda detector, x, **how: detector.errors_of(
        detector.prepare(x, **how), **({} if not how else places(detector, how["groups"]))
    ),
    "reconstruct": lambda detector, x, **how: np.concatenate(
        detector.reconstruct(x, **how), axis=1
    ),
    "encode": lambda detector, x, **how: detector.encode(x, **how),
    "states": lambda detector, x, **how: detector.states(x, "encoder_1", **how),
    "predict": lambda detector, x, **how: detector.predict(x, **how),
    "p-values": lambda detector, x, **how: detector.p_values(x, **how),
}
OF_A_VOTE = ("score", "errors", "reconstruct")


@pytest.mark.parametrize("method", METHODS)
def test_groups_give_what_their_networks_give(trained: dict[str, Detector], method: str) -> None:
    call, detector = METHODS[method], trained["groups"]
    found = call(detector, TEST, groups=OF_TEST)
    np.testing.assert_allclose(found, alone(detector, call), rtol=1e-4, atol=1e-6)
    # Neither does the order of rows matter, nor which others there are.
    few = np.flatnonzero(OF_TEST != "south")[::-1]
    again = call(detector, TEST[few], groups=OF_TEST[few])
    np.testing.assert_allclose(again, found[few], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", OF_A_VOTE)
def test_a_vote_is_the_mean_of_its_networks(trained: dict[str, Detector], method: str) -> None:
    call, detector = METHODS[method], trained["vote"]
    found = call(detector, TEST)
    np.testing.assert_allclose(found, alone(detector, call), rtol=1e-4, atol=1e-5)


def test_a_vote_decides_by_its_own_threshold(trained: dict[str, Detector]) -> None:
    detector = trained["vote"]
    scores = detector.score(TEST)
    np.testing.assert_array_equal(detector.predict(TEST), scores > detector.threshold.value)
    calibrated = detector.threshold.calibration.p_values(scores)
    np.testing.assert_array_equal(detector.p_values(TEST), calibrated)
    for method in ("encode", "states"):
        with pytest.raises(InputError, match=f"{method}: the detector is an ensemble; allowed"):
            METHODS[method](detector, TEST)


def test_reasons(detector: Detector, route: str) -> None:
    """A feature that is far off is the first reason, and its error is that of the feature."""
    x = TEST.copy()
    far = np.arange(60) % 5
    x[np.arange(60), far] += 100
    prepared = detector.prepare(x, **own(route))
    errors = detector.errors_of(prepared, **places(detector))
    usual = detector.usual_errors
    for row, reasons in enumerate(detector.explain(x, top=2, **own(route))):
        assert len(reasons) == 2
        first = reasons[0]
        assert first.feature == detector.schema.feature_name(int(far[row]))
        assert first.error == pytest.approx(errors[row, far[row]], rel=1e-4)
        of_group = usual if route != "groups" else usual[NAMES.index(OF_TEST[row])]
        assert first.usual == pytest.approx(of_group[far[row]], rel=1e-5)


def test_discoveries_are_those_of_scipy(detector: Detector, route: str) -> None:
    found = detector.discoveries(TEST, rate=0.3, **own(route))
    wanted = false_discovery_control(detector.p_values(TEST, **own(route))) <= 0.3
    assert wanted.any()
    np.testing.assert_array_equal(found, wanted)


def test_labels_and_named_thresholds(detector: Detector, route: str, tmp_path: Path) -> None:
    scores = detector.score(TEST, **own(route))
    strict = detector.calibrate(TEST, rule=Quantile(q=0.5), name="half", **own(route))
    best = strict.calibrate(TEST, rule=BestF1(), is_anomaly=LABELS, name="best", **own(route))
    assert set(best.thresholds) == {"half", "best"}
    best.save(tmp_path)
    loaded = aejax.load(tmp_path)
    for name, rule, labels in (("half", Quantile(q=0.5), None), ("best", BestF1(), LABELS)):
        expected = np.zeros(60, bool)
        for group in NAMES if route == "groups" else ("all",):
            mine = group == OF_TEST if route == "groups" else np.full(60, True)
            given = None if labels is None else labels[mine]
            expected[mine] = scores[mine] > fit_threshold(rule, scores[mine], given).value
        for one in (best, loaded):
            np.testing.assert_array_equal(one.use(name).predict(TEST, **own(route)), expected)
    if route == "groups":
        member = best.member("south")
        assert set(member.thresholds) == {"half", "best"}
        assert member.use("half").threshold == best.thresholds["half"].each[1]
    with pytest.raises(InputError, match="is_anomaly has 59 values"):
        detector.calibrate(TEST, rule=BestF1(), is_anomaly=LABELS[:59], **own(route))
    with pytest.raises(InputError, match="threshold is 'hal'; did you mean 'half'"):
        best.use("hal")


def test_saved_and_loaded(detector: Detector, route: str, tmp_path: Path) -> None:
    detector.save(tmp_path)
    loaded = aejax.load(tmp_path)
    assert loaded.fingerprint == detector.fingerprint
    for field in ("config", "schema", "threshold", "thresholds", "provenance", "history"):
        assert getattr(loaded, field) == getattr(detector, field), field
    for field in ("combine", "members", "groups"):
        assert getattr(loaded, field) == getattr(detector, field), field
    np.testing.assert_array_equal(loaded.p_values(TEST, **own(route)), _p_values(detector, route))


def _p_values(detector: Detector, route: str) -> np.ndarray:
    return detector.p_values(TEST, **own(route))


def test_scores_compose_with_jax(detector: Detector, route: str) -> None:
    x, known = detector.prepare(TEST, **own(route)), tuple(places(detector).values())
    expected = detector.score(TEST, **own(route))
    np.testing.assert_allclose(jax.jit(aejax.score_fn(detector))(x, *known), expected, rtol=1e-5)
    traced = []

    @jax.jit
    def compiled(*given: Any) -> jax.Array:
        traced.append(given)
        return aejax.scores(*given)

    np.testing.assert_allclose(compiled(detector, x, *known), expected, rtol=1e-5)
    # Another detector of the same network takes the same program.
    other = jax.tree.map(lambda leaf: leaf * 1.01, detector)
    assert not np.allclose(compiled(other, x, *known), expected, rtol=1e-5)
    assert len(traced) == 1
    gradient = jax.grad(lambda x: aejax.score_fn(detector)(x, *known).sum())(x)
    step = 1e-2 * np.eye(5, dtype=np.float32)[0]
    scores = [detector.score_rows(x + at * step, **places(detector)) for at in (-1, 1)]
    slope = (scores[1].astype(np.float64) - scores[0]) / 2e-2
    close = np.isclose(slope, gradient[:, 0], rtol=2e-2, atol=2e-2)
    # But where a neuron wakes up between the two.
    assert close.mean() > 0.9
    with pytest.raises(InputError, match="members is "):
        aejax.scores(detector, x, *(() if known else (np.zeros(60, np.int32),)))


def test_a_tree_of_arrays(detector: Detector, route: str) -> None:
    same = jax.tree.map(np.array, detector)
    assert same.fingerprint == detector.fingerprint
    assert same.threshold == detector.threshold
    assert same.groups == detector.groups
    expected = detector.predict(TEST, **own(route))
    np.testing.assert_array_equal(same.predict(TEST, **own(route)), expected)


@pytest.mark.parametrize("route", ROUTES)
def test_the_fastest_products_are_measured(route: str) -> None:
    few = fitted(route, dataclasses.replace(CONFIG, precision="fastest"))
    assert few.config.precision == "float32"
    assert "too few to time" in few.provenance["precision"]


def test_the_fastest_products_of_many_rows() -> None:
    x, names = rows(4000, seed=3)
    config = dataclasses.replace(CONFIG, precision="fastest")
    for how in ({"members": 2}, {"groups": names}):
        found = aejax.fit(config, x, **how)
        assert found.config.precision in ("float32", "bfloat16")
        assert "bfloat16" in found.provenance["precision"]
        assert (
            found.config.products
            == dataclasses.replace(config, precision=found.config.precision).products
        )
    population = aejax.fit_population([config, config], x)
    for one in population.detectors:
        assert one is not None
        assert one.config.precision in ("float32", "bfloat16")
        assert "as fast as float32" in one.provenance["precision"] or "order" in str(one.provenance)
    # Whatever was fastest for either, both vote in one program.
    apart = tuple(
        dataclasses.replace(one, config=dataclasses.replace(config, precision=precision))
        for one, precision in zip(population.detectors, ("float32", "bfloat16"), strict=True)
        if one is not None
    )
    assert dataclasses.replace(population, detectors=apart).ensemble(x).members == 2


def test_batches_are_halved_when_memory_is_short(
    detector: Detector, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = detector.score(TEST, **own(route))
    sizes = []

    def look(args: tuple[Any, ...]) -> None:
        tiles = args[-1].ndim == 1
        size = int(np.prod(args[-2 if tiles else -1].shape[: 2 if tiles else 1]))
        sizes.append(size)
        if size > 16:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    with monkeypatch.context() as patch:
        before_each(patch, look)
        small = dataclasses.replace(detector)
        found = small.score(TEST, **own(route), batch_size=64)
        assert max(sizes) > 16
        assert small.batch_limit.rows == 16
        sizes.clear()
        small.reconstruct(TEST, **own(route), batch_size=64)
        assert max(sizes) <= 16
    np.testing.assert_allclose(found, expected, rtol=1e-5)


_DEVICES = """
import sys
import jax, numpy as np, aejax
from aejax.detection.placed import mesh
assert jax.local_device_count() == 4
with np.load(sys.argv[1] + "/rows.npz") as kept:
    x, groups = kept["x"], kept["groups"]
used = set()
real = mesh.on_device
def spy(device, tree):
    used.add(device.id)
    return real(device, tree)
mesh.on_device = spy
found = {}
for route in ("one", "vote", "groups"):
    detector = aejax.load(sys.argv[1] + "/" + route)
    import dataclasses
    detector = dataclasses.replace(detector, devices=4)
    how = {"groups": groups} if route == "groups" else {}
    found[route] = detector.score(x, batch_size=16, **how)
    found[route + " explained"] = np.array(
        [reasons[0].error for reasons in detector.explain(x, batch_size=16, **how)]
    )
assert used == {0, 1, 2, 3}, used
np.savez(sys.argv[1] + "/found.npz", **found)
"""


def test_four_devices_share_the_rows_of_every_route(
    trained: dict[str, Detector], tmp_path: Path
) -> None:
    np.savez(tmp_path / "rows.npz", x=TEST, groups=OF_TEST)
    for route, detector in trained.items():
        detector.save(tmp_path / route)
    done = subprocess.run(
        [sys.executable, "-c", _DEVICES, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
            + " --xla_force_host_platform_device_count=4",
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "found.npz") as found:
        for route, detector in trained.items():
            expected = detector.score(TEST, **own(route))
            np.testing.assert_allclose(found[route], expected, rtol=1e-5)
            errors = [reasons[0].error for reasons in detector.explain(TEST, **own(route))]
            np.testing.assert_allclose(found[f"{route} explained"], errors, rtol=1e-4)


def frame(mixed: bool = False) -> pd.DataFrame:
    table = pd.DataFrame(X, columns=list("abcde")).assign(store=GROUPS)
    if mixed:
        table["colour"] = np.where(X[:, 0] > 5, "red", "blue")
        table["open"] = X[:, 1] > 4
        table.loc[::7, "b"] = np.nan
    return table


@pytest.mark.parametrize("mixed", [False, True], ids=["numbers", "mixed"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_names_the_groups_of_frames_and_files(
    mixed: bool, suffix: str, tmp_path: Path
) -> None:
    table = frame(mixed)
    columns = Columns(kinds="mixed") if mixed else Columns()
    scale = Scale(kind="standard")
    config = dataclasses.replace(CONFIG, columns=columns, scale=scale)
    by_column = aejax.fit(config, table, groups="store")
    assert by_column.groups.column == "store"
    assert "store" not in by_column.schema.names
    by_array = aejax.fit(config, table.drop(columns="store"), groups=GROUPS)
    assert by_array.fingerprint == by_column.fingerprint
    path = tmp_path / f"rows.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    of_files = aejax.fit(config, path, groups="store")
    assert of_files.groups == by_column.groups
    expected = by_array.score(table.drop(columns="store"), groups=GROUPS)
    for found in (by_column, of_files):
        shuffled = table[table.columns[::-1]]
        np.testing.assert_allclose(found.score(shuffled, groups="store"), expected, rtol=1e-4)
        assert (
            found.predict(table, groups="store") == by_array.predict(table, groups=GROUPS)
        ).all()
    for name in NAMES:
        # As the group would be alone, but for categories that only others have.
        single = by_column.member(name)
        mine = name == GROUPS
        np.testing.assert_allclose(
            single.score(table[mine].drop(columns="store")), expected[mine], rtol=1e-4
        )
    with pytest.raises(InputError, match="groups is 'stor'; did you mean 'store'"):
        by_column.score(table, groups="stor")


def test_groups_of_a_mixed_table_are_what_each_is_alone(tmp_path: Path) -> None:
    table = frame(mixed=True)
    config = dataclasses.replace(CONFIG, columns=Columns(kinds="mixed"))
    found = aejax.fit(config, table, groups="store")
    for name in NAMES:
        mine = table[name == GROUPS].drop(columns="store")
        single = aejax.fit(config, mine, schema=found.schema)
        scores = found.score(mine, groups=np.repeat(name, len(mine)))
        np.testing.assert_allclose(scores, single.score(mine), rtol=2e-3)
        at = found.groups.place(name)
        assert found.threshold.values[at] == pytest.approx(single.threshold.value, rel=2e-3)
        np.testing.assert_allclose(found.usual_errors[at], single.usual_errors, rtol=5e-3)
    reasons = found.explain(table[:3].assign(colour="green"), groups="store", top=7)
    assert {reason.feature for reason in reasons[0]} == set(found.schema.names)
    said = {reason.feature: reason for reason in reasons[0]}["colour"]
    assert "green" in said.found
    assert said.expected in ("red", "blue")
    found.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_array_equal(
        loaded.score(table, groups="store"), found.score(table, groups="store")
    )


def test_groups_far_from_0_are_prepared_with_their_digits() -> None:
    level = np.where(GROUPS == "north", 1e9, np.where(GROUPS == "south", 5e8, 0.0))
    x = np.float64(X) + level[:, None]
    found = aejax.fit(CONFIG, x, groups=GROUPS)
    prepared = found.prepare(x, groups=GROUPS)
    assert prepared.dtype == np.float32
    known = found.groups.members(GROUPS, len(x))
    expected = found.score(x, groups=GROUPS)
    np.testing.assert_allclose(found.score_rows(prepared, members=known), expected, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(aejax.scores)(found, prepared, known), expected, rtol=1e-4, atol=1e-6
    )


ONE_LINE: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"groups": GROUPS, "labels": GROUPS}, "labels is given with groups; allowed: with"),
    "initial": ({"groups": GROUPS, "initial": {}}, "initial is given with groups; allowed: with"),
    "watch": ({"groups": GROUPS, "watch": dict}, "watch is given with groups; allowed: with one"),
    "tensorboard": (
        {"groups": GROUPS, "tensorboard": "logs"},
        "tensorboard is given with groups; allowed: with one network",
    ),
    "validation": ({"groups": GROUPS, "x_validation": X}, "x_validation is given with groups"),
    "scale": ({"groups": GROUPS, "x_scale": X}, "x_scale is given with groups; allowed: with"),
    "calibrate": ({"groups": GROUPS, "x_calibrate": X}, "x_calibrate is given with groups"),
    "members": ({"groups": GROUPS, "members": 2}, "members is given with groups; allowed: with"),
    "votes": ({"groups": GROUPS, "combine": "rank"}, "combine is given without members; allowed"),
    "watched": ({"members": 2, "watch": dict}, "watch is given with members=2; allowed: with one"),
    "begun": ({"members": 2, "initial": {}}, "initial is given with members=2; allowed: with one"),
    "logged": ({"members": 2, "tensorboard": "logs"}, "tensorboard is given with members=2"),
    "vary": ({"vary": aejax.Vary(units=0.5)}, "vary is given without members; allowed: with"),
    "combine": ({"combine": "median"}, "combine is given without members; allowed: with members"),
    "least": ({"least_rows": 5}, "least_rows is given without groups; allowed: with groups"),
    "small": ({"members": 2, "least_rows": 5}, "least_rows is given without groups; allowed"),
    "column": ({"groups": "store"}, "groups is 'store' and the rows have no columns with names"),
    "short": ({"groups": GROUPS[:5]}, "groups"),
}


@pytest.mark.parametrize("case", ONE_LINE)
def test_what_does_not_go_together_is_refused_in_a_line(case: str) -> None:
    how, said = ONE_LINE[case]
    with pytest.raises(InputError) as refused:
        aejax.fit(CONFIG, X, **how)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_groups_are_asked_for_and_only_where_there_are_any(
    trained: dict[str, Detector], tmp_path: Path
) -> None:
    for method in ("score", "predict", "encode", "explain", "reconstruct", "prepare", "p_values"):
        with pytest.raises(InputError, match="groups is None; allowed with a detector of 3 groups"):
            getattr(trained["groups"], method)(TEST)
        with pytest.raises(InputError, match="groups are given; allowed with a detector without"):
            getattr(trained["one"], method)(TEST, groups=OF_TEST)
        if method != "encode":
            with pytest.raises(InputError, match="groups are given; allowed with a detector with"):
                getattr(trained["vote"], method)(TEST, groups=OF_TEST)
    for one, method in (("groups", "spread"), ("groups", "member_scores"), ("one", "spread")):
        with pytest.raises(InputError, match="allowed: an ensemble"):
            getattr(trained[one], method)(TEST)
    with pytest.raises(InputError, match="decode: the detector is one of groups; allowed: a sing"):
        trained["groups"].decode(np.zeros((1, 2)))
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(InputError, match="groups is ndarray; allowed with files: the name of a c"):
        aejax.fit(CONFIG, tmp_path / "rows.npy", groups=GROUPS)
    with pytest.raises(InputError, match=r"groups have shape \(2,\); allowed: \(240,\), one a row"):
        aejax.fit(CONFIG, X, groups=GROUPS[:2])
