"""A fork computes where nothing was computed before it, and is refused in one line elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aejax
from tests.plain import plain_config

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")

CONFIG = plain_config(model=aejax.Dense(hidden=(3,)), train=aejax.Train(epochs=1, batch_size=16))
X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)

# Each action in a fork of its own; what it gave or raised goes to stdout, "hangs" if it never did.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
import aejax
from aejax import cli
from aejax.data import files
from aejax.estimator import AutoEncoder

folder, before = Path(sys.argv[1]), sys.argv[2]
x = np.load(folder / "rows.npy")
config = aejax.config.read_config(folder / "config.json")
detector = aejax.load(folder / "detector")
groups = np.arange(len(x)) % 3

ACTIONS = {
    "score": lambda: detector.score(x).tolist(),
    "predict": lambda: detector.predict(x).tolist(),
    "load and score": lambda: aejax.load(folder / "detector").score(x).tolist(),
    "explain": lambda: len(detector.explain(x[:2], top=1)),
    "encode": lambda: detector.encode(x).shape[0],
    "calibrate": lambda: detector.calibrate(x).threshold.rows,
    "score files": lambda: aejax.score_files(
        detector, folder / "rows.npy", folder / f"scores-{before}"
    )["rows"],
    "fit": lambda: aejax.fit(config, x).threshold.rows,
    "fit in a folder": lambda: aejax.fit(config, x, folder=folder / before).threshold.rows,
    "fit groups": lambda: len(aejax.fit(config, x, groups=groups).groups),
    "fit an ensemble": lambda: aejax.fit(config, x, members=2).members,
    "fit an estimator": lambda: len(AutoEncoder().fit(x).score_samples(x)),
    "run a scorer": lambda: scorer(x).tolist(),
    "open an export": lambda: aejax.load(folder / "export").score(x).tolist(),
    "load": lambda: aejax.load(folder / "detector").threshold.rows,
    "save": lambda: detector.with_threshold(detector.threshold).save(folder / f"saved-{before}"),
    "settings": lambda: aejax.config.read_config(folder / "config.json") == config,
    "read": lambda: len(files.read(folder / "rows.npy")[0]),
}

sys.path.insert(0, str(folder / "export"))
from scorer import Scorer
if before != "loaded":
    scorer = Scorer(folder / "export")
if before == "scored":
    detector.score(x)
elif before == "used JAX":
    import jax
    jax.block_until_ready(jax.numpy.ones(3) + 1)

for name in sys.argv[3:]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(100)
        try:
            said = ACTIONS[name]()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    status = os.waitpid(child, 0)[1]
    print(json.dumps([name, json.loads(os.read(reading, 1 << 16)) if not status else "hangs"]))
"""
COMPUTES = [
    "score",
    "predict",
    "load and score",
    "explain",
    "encode",
    "calibrate",
    "score files",
    "fit",
    "fit in a folder",
    "fit groups",
    "fit an ensemble",
    "fit an estimator",
    "open an export",
]
DOES_NOT = ["load", "save", "settings", "read"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fork")
    np.save(folder / "rows.npy", X)
    aejax.config.write_config(CONFIG, folder / "config.json")
    detector = aejax.fit(CONFIG, X)
    detector.save(folder / "detector")
    aejax.export(detector, folder / "export")
    np.save(folder / "scores.npy", detector.score(X))
    return folder


def forked(folder: Path, before: str, actions: list[str]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder), before, *actions],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("before", ["scored", "used JAX"])
def test_a_fork_after_computing_is_refused_what_would_never_end(folder: Path, before: str) -> None:
    found = forked(folder, before, [*COMPUTES, *DOES_NOT, "run a scorer"])
    for name in COMPUTES:
        said = str(found[name])
        assert said.startswith("InputError: process "), (name, said)
        assert "spawn" in said
        assert "\n" not in said
    assert str(found["run a scorer"]).startswith("RuntimeError: this process was forked after")
    rows = aejax.load(folder / "detector").threshold
    assert rows is not None
    assert [found[name] for name in DOES_NOT] == [rows.rows, None, True, len(X)]


def test_a_fork_before_computing_does_all(folder: Path) -> None:
    """As workers of a server that loads its detector before it forks them."""
    actions = ["score", "load and score", "fit in a folder", "open an export", *DOES_NOT]
    found = forked(folder, "loaded", actions)
    expected = np.load(folder / "scores.npy")
    for name in ("score", "load and score", "open an export"):
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)  # type: ignore[arg-type]
    assert found["fit in a folder"] == found["load"]
