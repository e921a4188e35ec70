"""Networks of one's own through everything that a built-in one goes through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.config import Config, InputError, Train
from aejax.scoring.inspection import inspect_folder
from aejax.training.history import Diverged
from tests.plain import plain_config

own_networks = pytest.importorskip("tests.extending.own_networks", reason="needs equinox")

FEATURES = 6
NETWORKS: dict[str, Any] = own_networks.networks(FEATURES)
KINDS = list(NETWORKS)
ROOT = Path(__file__).parents[2]


def rows(count: int = 400, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    causes = random.normal(size=(count, 3))
    mixed = causes @ np.random.default_rng(9).normal(size=(3, FEATURES))
    return (mixed + 0.1 * random.normal(size=mixed.shape)).astype(np.float32)


def config(name: str, **more: Any) -> Config:
    return plain_config(
        model=NETWORKS[name], train=Train(epochs=8, batch_size=64, learning_rate=0.01), **more
    )


@pytest.fixture(scope="module")
def detectors() -> dict[str, aejax.Detector]:
    return {name: aejax.fit(config(name), rows()) for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_it_learns_scores_flags_and_names_reasons(
    detectors: dict[str, aejax.Detector], name: str
) -> None:
    detector, x = detectors[name], rows(50, seed=1)
    assert detector.history[-1]["loss"] < detector.history[0]["loss"]
    scores = detector.score(x)
    assert scores.dtype == np.float32
    # A score is the mean squared error of the network's own output on scaled rows.
    network, (scaled, y) = detector.scoring.model, detector.reconstruct(x)
    np.testing.assert_allclose(scores, np.mean((scaled - y) ** 2, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        y, np.asarray(network.apply(detector.variables, jnp.asarray(scaled))), atol=1e-5
    )
    np.testing.assert_array_equal(detector.predict(x), scores > detector.threshold.value)
    for row, reasons in zip(x, detector.explain(x, top=FEATURES), strict=True):
        assert sorted(reason.feature for reason in reasons) == sorted(
            detector.schema.feature_name(at) for at in range(len(row))
        )
    # The same rows one by one: a score depends on the model and the row only.
    np.testing.assert_allclose(np.concatenate([detector.score(r[None]) for r in x]), scores, 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_training_again_gives_the_same_bits(name: str) -> None:
    first, again = (aejax.fit(config(name), rows(), provenance={}) for _ in range(2))
    np.testing.assert_array_equal(first.score(rows()), again.score(rows()))


def test_instances_are_never_changed() -> None:
    network = own_networks.networks(FEATURES)["nnx"]
    before = np.asarray(network.down.kernel[...])
    aejax.fit(plain_config(model=network, train=Train(epochs=2)), rows())
    np.testing.assert_array_equal(before, network.down.kernel[...])


_ELSEWHERE = """
import sys
import numpy as np
import aejax
assert not any("own_networks" in name for name in sys.modules)
folder, x, out = sys.argv[1:]
detector = aejax.load(folder)
x = np.load(x)
np.savez(out, scores=detector.score(x), flags=detector.predict(x),
         features=[reason.feature for reason in detector.explain(x, top=1)[0]])
again = detector.calibrate(x, rule=aejax.MeanStd(k=2.0))
again.save(folder + "-again")
np.testing.assert_array_equal(aejax.load(folder + "-again").score(x), detector.score(x))
assert not {"equinox"} & set(sys.modules), "loading must not run anybody's code"
"""


@pytest.mark.parametrize("name", KINDS)
def test_another_process_scores_without_the_code(
    detectors: dict[str, aejax.Detector], name: str, tmp_path: Path
) -> None:
    detector, x = detectors[name], rows(40, seed=2)
    folder = tmp_path / "detector"
    detector.save(folder)
    np.save(tmp_path / "x.npy", x)
    arguments = (str(folder), str(tmp_path / "x.npy"), str(tmp_path / "out.npz"))
    # From elsewhere, so that the tests can't be imported.
    finished = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, *arguments],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["scores"], detector.score(x), rtol=1e-5)
        np.testing.assert_array_equal(out["flags"], detector.predict(x))
        assert out["features"][0] == detector.explain(x, top=1)[0][0].feature
    assert str(ROOT).encode() not in b"".join(p.read_bytes() for p in folder.iterdir())
    shown = aejax.load(folder)
    assert shown.fingerprint == detector.fingerprint
    with pytest.raises(InputError, match=r"loaded without its code; allowed: load\(folder, net"):
        aejax.fit(shown.config, x)


@pytest.mark.parametrize("name", ["linen", "functions"])
def test_it_is_trained_on_with_its_code(
    detectors: dict[str, aejax.Detector], name: str, tmp_path: Path
) -> None:
    detectors[name].save(tmp_path)
    loaded = aejax.load(tmp_path, network=NETWORKS[name])
    np.testing.assert_array_equal(loaded.score(rows()), detectors[name].score(rows()))
    further = aejax.fit(loaded.config, rows(), initial=loaded.variables)
    assert further.history[0]["loss"] < detectors[name].history[0]["loss"]
    with pytest.raises(InputError, match=r"network is .*allowed: the one that"):
        aejax.load(tmp_path, network=own_networks.Transformer(width=4))
    other = {"linen": own_networks.Relu(), "functions": None}[name]
    if other is not None:
        with pytest.raises(InputError, match=r"reconstructions differ by .*allowed: the same"):
            aejax.load(tmp_path, network=other)


@pytest.mark.parametrize("name", KINDS)
def test_files_are_scored_and_a_killed_job_goes_on(
    detectors: dict[str, aejax.Detector], name: str, tmp_path: Path
) -> None:
    detector, x = detectors[name], rows(2000, seed=3)
    detector.save(tmp_path / "detector")
    names = [f"feature[{at}]" for at in range(FEATURES)]
    pq.write_table(pa.table(dict(zip(names, x.T, strict=True))), tmp_path / "x.parquet")
    loaded = aejax.load(tmp_path / "detector")
    aejax.score_files(loaded, tmp_path / "x.parquet", tmp_path / "scores", part_rows=500)
    found = pq.read_table(tmp_path / "scores").sort_by("row")["score"].to_numpy()
    np.testing.assert_allclose(found, detector.score(x), rtol=1e-5)


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox", "functions"])
def test_it_is_exported_and_scored_with_jax_alone(
    detectors: dict[str, aejax.Detector], name: str, tmp_path: Path
) -> None:
    detector, x = detectors[name], rows(30, seed=4)
    detector.save(tmp_path / "detector")
    # As it is in a process that doesn't have the code.
    loaded = aejax.load(tmp_path / "detector")
    aejax.export(loaded, tmp_path / "export")
    np.save(tmp_path / "x.npy", x)
    subprocess.run(
        [sys.executable, str(tmp_path / "export" / "scorer.py"), "x.npy", "scores.npy"],
        cwd=tmp_path, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), detector.score(x), rtol=1e-5)
    assert inspect_folder(tmp_path / "export")
    opened = aejax.load(tmp_path / "export")
    assert opened.fingerprint == detector.fingerprint
    np.testing.assert_allclose(opened.score(x), detector.score(x), rtol=1e-6)
    assert opened.explain(x, top=2) == loaded.explain(x, top=2)
    # It is trained on with the code, as any saved detector is.
    again = aejax.load(tmp_path / "export", network=NETWORKS[name])
    np.testing.assert_array_equal(again.score(x), detector.score(x))


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox", "functions"])
def test_it_is_exported_to_onnx(
    detectors: dict[str, aejax.Detector], name: str, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    detector, x = detectors[name], rows(30, seed=4)
    aejax.export(detector, tmp_path / "export", formats="onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "export" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run(None, {"rows": x})[0], detector.score(x), rtol=1e-4)
    with pytest.raises(InputError, match=r"allowed for ONNX: the code, as in load\(folder, netw"):
        aejax.export(aejax.load(tmp_path / "export"), tmp_path / "again", formats="onnx")


@pytest.mark.parametrize("name", KINDS)
def test_members_vote_and_are_saved(name: str, tmp_path: Path) -> None:
    ensemble = aejax.fit(config(name), rows(), members=3)
    assert ensemble.members == 3
    x = rows(20, seed=5)
    each = ensemble.member_scores(x)
    np.testing.assert_allclose(ensemble.score(x), each.mean(axis=1), rtol=1e-5)
    assert (ensemble.spread(x) > 0).all()
    ensemble.save(tmp_path)
    loaded = aejax.load(tmp_path)
    np.testing.assert_allclose(loaded.score(x), ensemble.score(x), rtol=1e-5)
    aejax.export(loaded, tmp_path / "export")
    assert aejax.load(tmp_path / "export").fingerprint == ensemble.fingerprint


def test_members_of_a_factory_begin_apart_and_of_an_instance_alike() -> None:
    alone = Train(epochs=1, batch_size=400, learning_rate=1e-12, validation_fraction=0.0)
    apart = {}
    for name in ("nnx", "nnx factory"):
        ensemble = aejax.fit(plain_config(model=NETWORKS[name], train=alone), rows(), members=2)
        kernel = ensemble.variables["params"]["down"]["kernel"]
        apart[name] = float(np.abs(kernel[0] - kernel[1]).max())
    assert apart["nnx"] < 1e-6 < 0.01 < apart["nnx factory"]


@pytest.mark.parametrize("name", ["linen", "equinox", "functions"])
def test_each_group_has_its_own(name: str, tmp_path: Path) -> None:
    x, groups = rows(300), np.arange(300) % 3
    detector = aejax.fit(config(name), x, groups=groups)
    one = aejax.fit(config(name), x[groups == 1])
    np.testing.assert_allclose(detector.member("1").score(x[:20]), one.score(x[:20]), rtol=1e-3)
    detector.save(tmp_path)
    np.testing.assert_allclose(
        aejax.load(tmp_path).score(x, groups=groups), detector.score(x, groups=groups), rtol=1e-5
    )


_DEVICES = """
import numpy as np, jax, aejax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tests.extending.own_networks import networks
assert jax.device_count() == 4
x = np.random.default_rng(0).normal(size=(512, 6)).astype(np.float32)
for name, network in networks(6).items():
    config = aejax.Config(model=network, train=aejax.Train(epochs=2, batch_size=64))
    detector = aejax.fit(config, x, devices=4)
    wanted = detector.score(x)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("rows")))
    found = jax.jit(aejax.score_fn(detector))(sharded)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)
"""


@pytest.mark.slow
def test_four_devices_score_as_one() -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    finished = subprocess.run(
        [sys.executable, "-c", _DEVICES],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]


class Unhashable(nn.Module):
    sizes: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(x.shape[-1])(x)


BAD: dict[str, tuple[Any, str]] = {
    "no network": (3, "Config.model is 3; allowed: settings of a built-in network, a Flax"),
    "a class": (nn.Dense, "Config.model is <class .*allowed: settings"),
    "another shape": (
        aejax.network(own_networks.init, lambda v, x: x[:, :1] * v["up"][0, 0]),
        r"gives float32\[2, 1\] for rows float32\[2, 6\]; allowed: the shape",
    ),
    "no parameters": (
        aejax.network(lambda key, shape: {"params": {}}, lambda v, x: x),
        "it has no parameters; allowed: at least one",
    ),
    "whole numbers": (
        aejax.network(own_networks.init, lambda v, x: x.astype(jnp.int32)),
        r"gives int32\[2, 6\]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_network_is_refused_in_one_line(name: str) -> None:
    network, said = BAD[name]
    with pytest.raises(InputError, match=said) as caught:
        aejax.fit(plain_config(model=network), rows())
    assert "\n" not in str(caught.value)


def test_more_that_is_refused() -> None:
    with pytest.raises(InputError, match=r"which is not hashable .*allowed: fields"):
        plain_config(model=Unhashable(sizes=[1, 2]))
    with pytest.raises(InputError, match="allowed with a network of one's own: 'float32'"):
        aejax.fit(config("functions", precision="bfloat16"), rows())
    with pytest.raises(InputError, match="two functions, or make"):
        aejax.network(own_networks.init)
    network = aejax.network(own_networks.init, lambda v, x: x * v["up"][0, 0] / 0)
    with pytest.raises(Diverged, match=r"the loss became (inf|nan) at step 1"):
        aejax.fit(plain_config(model=network), rows())


def test_a_network_with_batch_statistics_of_equinox_is_refused() -> None:
    import equinox

    norm = equinox.nn.BatchNorm(FEATURES, "rows", mode="batch")
    with pytest.raises(InputError, match=r"keeps state between calls .*aejax\.network"):
        aejax.fit(plain_config(model=norm), rows())


def test_functions_may_have_statistics_and_an_objective() -> None:
    def init(key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
        return {
            "params": {"scale": jnp.zeros(shape)},
            "seen": {"mean": jnp.zeros(shape), "rows": jnp.zeros(())},
        }

    def apply(variables: Any, x: jax.Array, *, train: bool, mask: jax.Array) -> Any:
        seen, scale = variables["seen"], variables["params"]["scale"]
        y = x * scale + seen["mean"] * (1 - scale)
        if not train:
            return y
        weights = mask[:, None]
        mean = jnp.sum(x * weights, axis=0) / jnp.maximum(jnp.sum(mask), 1)
        return y, {"seen": {"mean": mean, "rows": seen["rows"] + jnp.sum(mask)}}

    def losses(variables: Any, x: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean((apply(variables, x, train=False, mask=None) - target) ** 2, axis=1) * 7

    x = rows(100)
    plain = plain_config(
        model=aejax.network(init, apply),
        train=Train(epochs=2, batch_size=64, validation_fraction=0.0),
    )
    detector = aejax.fit(plain, x)
    # Every row once an epoch; padding isn't counted.
    assert float(detector.variables["seen"]["rows"]) == 200
    own = plain_config(model=aejax.network(init, apply, losses=losses), train=plain.train)
    assert aejax.fit(own, x).history[0]["loss"] == pytest.approx(
        7 * np.mean(detector.reconstruct(x)[0] ** 2), rel=0.05
    )


def test_padding_is_rows_of_the_same_batch() -> None:
    """A network that doesn't take the mask must not learn from rows that aren't in its batch."""
    x = rows(65)
    x[0] = 1e6

    def apply(variables: Any, x: jax.Array, *, train: bool) -> Any:
        y = x * variables["params"]["scale"]
        return (y, {"most": jnp.maximum(variables["most"], jnp.max(jnp.abs(x)))}) if train else y

    def init(key: jax.Array, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"params": {"scale": jnp.ones(shape)}, "most": jnp.zeros(())}

    from aejax.core import scaling, steps
    from aejax.core.optimizers import numbers
    from aejax.data.schema import Schema
    from aejax.models.build import build

    settings = plain_config(model=aejax.network(init, apply), train=Train(batch_size=8))
    program = steps.program_of(settings, build(settings.model, Schema(shape=(FEATURES,))))
    values = numbers(settings, 1)
    state = steps.new_state(program, (FEATURES,), values)
    from aejax.data.batches import pad_order

    order = np.array([5, 6, 7, 0, 0, 0, 0, 0], np.int32)
    pad_order(order, 3)
    scaler = scaling.fit(aejax.Scale(kind="none"), [], np.dtype(np.float32))
    after, _ = steps.train_steps(
        program, state, jnp.asarray(x), jnp.asarray(order)[None], scaler, values
    )
    assert float(after.variables["most"]) == pytest.approx(np.abs(x[5:8]).max())


def test_a_training_script_of_ones_own_ends_in_a_detector(tmp_path: Path) -> None:
    x = jnp.asarray(rows(512))
    network, optimizer = NETWORKS["functions"], optax.adam(1e-2)
    state = aejax.train_state(network, optimizer, jax.random.key(0), (FEATURES,))
    step = aejax.train_step(network, "squared", optimizer)
    batches = x.reshape(8, 64, FEATURES)
    after, metrics = jax.jit(lambda s: jax.lax.scan(step, s, batches))(state)
    assert int(after.step) == 8
    assert metrics["loss"].shape == (8,)
    # One step by hand, in float64.
    down, up = (np.float64(state.variables["params"][name]) for name in ("down", "up"))
    first = np.float64(batches[0])
    y = np.tanh(first @ down) @ up
    np.testing.assert_allclose(metrics["loss"][0], np.mean((y - first) ** 2), rtol=1e-5)
    detector = aejax.Detector.of(network, after.variables, x_normal=rows(200, seed=7))
    assert 0 < detector.predict(rows(200, seed=7)).mean() < 0.05
    detector.save(tmp_path)
    np.testing.assert_allclose(
        aejax.load(tmp_path).score(x), jax.jit(aejax.scores)(detector, x), rtol=1e-5
    )


SCALERS: dict[str, aejax.Scaler] = {
    "nothing": aejax.Scaler(None, None, None),
    "each feature": aejax.Scaler(np.arange(6.0), np.linspace(0.5, 2, 6), None),  # type: ignore[arg-type]
    "one shift, clipped": aejax.Scaler(np.float32(0.5), None, np.float32(1.5)),
    "one factor": aejax.Scaler(None, np.float32(0.25), None),
    "a clip alone": aejax.Scaler(None, None, np.float32(1)),
}


@pytest.mark.parametrize("kind", SCALERS)
def test_a_scaler_of_ones_own_is_saved_with_the_detector(kind: str, tmp_path: Path) -> None:
    shift, factor, limit, _ = scaler = SCALERS[kind]
    x = rows(50)
    scaled = (np.float64(x) - (0 if shift is None else shift)) * (1 if factor is None else factor)
    scaled = scaled if limit is None else np.clip(scaled, -limit, limit)
    network = aejax.network(lambda key, shape: {"a": jnp.float32(0.5)}, lambda v, x: x * v["a"])
    variables = {"params": {"a": np.float32(0.5)}}
    detector = aejax.Detector.of(network, variables, x_normal=x, scaler=scaler)
    detector.save(tmp_path)
    for one in (detector, aejax.load(tmp_path)):
        np.testing.assert_allclose(one.score(x), np.mean((scaled / 2) ** 2, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("scaler", "message"),
    [
        (
            aejax.Scaler(np.zeros(5), None, None),
            r"scaler.shift is .*that broadcast to \[6\], or None",
        ),
        (aejax.Scaler(None, "wide", None), r"scaler.factor is 'wide'; allowed: numbers"),  # type: ignore[arg-type]
        (aejax.Scaler(np.float32(1), None, None, np.zeros(6)), "knots beside shift or factor"),
    ],
)
def test_a_scaler_that_is_none_is_refused(scaler: aejax.Scaler, message: str) -> None:
    network, variables = (
        NETWORKS["functions"],
        {"params": own_networks.init(jax.random.key(0), (6,))},
    )
    with pytest.raises(InputError, match=message):
        aejax.Detector.of(network, variables, x_normal=rows(50), scaler=scaler)


def test_masked_rows_of_a_batch_count_for_nothing() -> None:
    network, optimizer = aejax.Dense(hidden=(4,), batch_norm=True), optax.sgd(0.1)
    state = aejax.train_state(network, optimizer, jax.random.key(1), (FEATURES,))
    step = jax.jit(aejax.train_step(network, "absolute", optimizer))
    x, wild = rows(32), rows(32)
    mask = np.arange(32) < 20
    wild[20:] = 1e3
    plain, masked = step(state, jnp.asarray(x[:20])), step(state, (jnp.asarray(wild), mask))
    np.testing.assert_allclose(plain[1]["loss"], masked[1]["loss"], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(plain[0]), jax.tree.leaves(masked[0]), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_detector_is_a_pytree() -> None:
    detector = aejax.fit(
        plain_config(model=aejax.Dense(hidden=(3,)), train=Train(epochs=2)), rows()
    )
    moved = jax.device_put(detector)
    assert isinstance(moved, aejax.Detector)
    assert moved.threshold == detector.threshold
    doubled = jax.tree.map(lambda leaf: leaf, detector)
    np.testing.assert_array_equal(doubled.score(rows()), detector.score(rows()))
    program = jax.jit(aejax.scores)
    program(detector, rows())
    size = program._cache_size()
    # Another threshold and provenance retrace nothing; another network does.
    other = aejax.fit(
        plain_config(
            model=aejax.Dense(hidden=(3,)), train=Train(epochs=1), rule=aejax.MeanStd(k=1.0)
        ),
        rows(),
    )
    program(other, rows())
    assert program._cache_size() == size
    wider = aejax.fit(plain_config(model=aejax.Dense(hidden=(4,)), train=Train(epochs=1)), rows())
    program(wider, rows())
    assert program._cache_size() == size + 1
    gradient = jax.grad(lambda x: aejax.score_fn(detector)(x).sum())(jnp.asarray(rows(4)))
    step = 1e-2
    x = np.float64(rows(4))
    x[0, 1] += step
    up = detector.score(x)[0]
    x[0, 1] -= 2 * step
    assert gradient[0, 1] == pytest.approx((up - detector.score(x)[0]) / (2 * step), rel=2e-2)


def test_a_callers_arrays_are_not_written_into() -> None:
    network, optimizer = NETWORKS["nnx"], optax.sgd(0.1)
    state = aejax.train_state(network, optimizer, jax.random.key(0), (FEATURES,))
    state = state._replace(variables=jax.tree.map(np.array, state.variables))
    before = jax.tree.map(np.copy, state.variables)
    aejax.train_step(network, "squared", optimizer)(state, jnp.asarray(rows(32)))
    jax.tree.map(np.testing.assert_array_equal, state.variables, before)
