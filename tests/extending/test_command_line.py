"""A newcomer's network in one file of theirs, through the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import aejax
from aejax.cli import main

ROOT = Path(__file__).parents[2]
COLUMNS = ["pressure", "flow", "speed", "power", "heat", "noise"]
CODE = """
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import aejax


class Transformer(nn.Module):
    width: int = 16
    heads: int = 2
    rate: float = 0.1
    activation: Literal["gelu", "relu"] = "gelu"
    sizes: tuple[int, ...] = (4,)
    gated: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        place = self.param("place", nn.initializers.normal(0.1), (x.shape[-1], self.width))
        tokens = nn.Dense(self.width)(x[..., None]) + place
        tokens += nn.MultiHeadDotProductAttention(self.heads)(tokens)
        for size in self.sizes:
            tokens = getattr(nn, self.activation)(nn.Dense(size)(tokens))
        tokens = nn.Dropout(self.rate, deterministic=not train)(tokens)
        return nn.Dense(1)(tokens)[..., 0]


class Narrow(nnx.Module):
    def __init__(self, features, width, rngs):
        self.down = nnx.Linear(features, width, rngs=rngs)
        self.up = nnx.Linear(width, features, rngs=rngs)

    def __call__(self, x):
        return self.up(nnx.tanh(self.down(x)))


def narrow(key, shape, width: int = 3):
    return Narrow(shape[0], width, nnx.Rngs(key))


def init(key, shape):
    return {"down": jax.random.normal(key, (shape[0], 2)), "up": jnp.zeros((2, shape[0]))}


pair = aejax.network(init, lambda variables, x: x @ variables["down"] @ variables["up"])
made = aejax.network(make=narrow)
instance = Narrow(6, 2, nnx.Rngs(0))
number = 3


def of_width(width: int):
    return Transformer(width=width)


def broken(width: int = 1):
    raise OSError("no such thing")
"""


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    causes = random.normal(size=(count, 2)) @ np.random.default_rng(9).normal(size=(2, 6))
    return (causes + 0.1 * random.normal(size=causes.shape)).astype(np.float32)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "aejax", *arguments]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def aejax_in(folder: Path, *arguments: str, code: int = 0) -> Any:
    """What a command says in a folder: its JSON, or what it says of bad input."""
    done = subprocess.run(
        command(*arguments, "--json"),
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_a_newcomers_network_goes_through_every_command(tmp_path: Path) -> None:
    theirs, elsewhere = tmp_path / "theirs", tmp_path / "elsewhere"
    theirs.mkdir()
    elsewhere.mkdir()
    (theirs / "networks.py").write_text(CODE)
    pd.DataFrame(rows(600, 0), columns=COLUMNS).to_csv(theirs / "train.csv", index=False)
    pd.DataFrame(rows(400, 1), columns=COLUMNS).to_csv(elsewhere / "holdout.csv", index=False)
    many = pd.DataFrame(rows(60_000, 2), columns=COLUMNS)
    many.loc[7, "heat"] += 20
    many.to_parquet(elsewhere / "many.parquet", index=False)
    run = str(tmp_path / "run")

    train = [
        "train",
        "--input",
        "train.csv",
        "--out",
        run,
        "--epochs",
        "5",
        "--quiet",
        "--calibration",
        "held-out",
    ]
    train += ["--learning-rate", "0.01", "--batch-size", "32", "--model", "networks:Transformer"]
    first = aejax_in(theirs, *train, "--set", "width=8", "--set", "activation=relu")
    assert "networks.Transformer" in (tmp_path / "run" / "report.html").read_text()
    same = aejax_in(theirs, *train, "--set", "width=8", "--set", "activation=relu")
    assert same["measured"] == first["measured"]
    refused = aejax_in(theirs, *train, "--set", "width=4", code=2)
    assert "already holds another run" in refused

    # From here on nothing has the code.
    found = aejax_in(
        elsewhere, "calibrate", run, "--input", "holdout.csv", "--rule", "quantile:0.9"
    )
    assert found["rows"] == 400
    score = ["score", run, "--input", "many.parquet", "--out", "scores", "--part-rows", "500"]
    parts = elsewhere / "scores"
    with subprocess.Popen(command(*score, "--quiet"), cwd=elsewhere, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and len(list(parts.glob("part-*.parquet"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(list(parts.glob("part-*.parquet"))) < 120
    aejax_in(elsewhere, *score, "--quiet")
    detector = aejax.load(run)
    scores = pq.read_table(parts).sort_by("row")["score"].to_numpy()
    np.testing.assert_allclose(scores, detector.score(many.to_numpy()), rtol=1e-5)

    explained = aejax_in(elsewhere, "explain", run, "--input", "many.parquet", "--row", "7")
    assert "heat" in json.dumps(explained)
    aejax_in(elsewhere, "export", run, "--out", "exported")
    np.save(elsewhere / "x.npy", many.to_numpy()[:50])
    subprocess.run(
        [sys.executable, "exported/scorer.py", "x.npy", "y.npy"],
        cwd=elsewhere, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    np.testing.assert_allclose(np.load(elsewhere / "y.npy"), scores[:50], rtol=1e-5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the file of networks and rows to train on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    (tmp_path / "networks.py").write_text(CODE)
    pd.DataFrame(rows(200, 0), columns=COLUMNS).to_csv("train.csv", index=False)
    return tmp_path


TRAIN = [
    "train",
    "--input",
    "train.csv",
    "--out",
    "run",
    "--epochs",
    "1",
    "--quiet",
    "--calibration",
    "held-out",
    "--model",
]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["networks:pair"], "apply="),
        pytest.param(["networks:made"], "make=", marks=pytest.mark.slow),
        pytest.param(["networks:instance"], "Narrow", marks=pytest.mark.slow),
        pytest.param(["networks:narrow", "--set", "width=2"], "width=2", marks=pytest.mark.slow),
        pytest.param(
            ["networks:of_width", "--set", "width=4"], "width = 4", marks=pytest.mark.slow
        ),
        (["networks:Transformer", "--set", "sizes=3,2", "--set", "gated=true"], "sizes = (3, 2)"),
    ],
)
def test_what_a_name_may_stand_for(arguments: list[str], text: str, folder: Path) -> None:
    assert main([*TRAIN, *arguments]) == 0
    written = json.loads((folder / "run" / "config.json").read_text())
    assert text in written["model"]["text"]
    assert main([*TRAIN, *arguments]) == 0, "the same command goes on"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["networks:Nothing"], "'networks:Nothing', which can't be imported (module 'netw"),
        (["nowhere:Net"], "(No module named 'nowhere'); allowed: package.mod"),
        (["networks:"], "--model is 'networks:', which can't be imported"),
        (
            ["denze"],
            "did you mean 'dense'? allowed: conv, dense, noise-conditioned, super-resolution, ",
        ),
        (["networks:number"], "Config.model is 3; allowed: settings of a built-in network, a Flax"),
        (
            ["networks:broken"],
            "can't be made (OSError: no such thing); allowed: a network, a class",
        ),
        (["networks:Narrow"], "missing 3 required positional arguments: 'features', 'width'"),
        (["networks:pair", "--set", "width=3"], "--set width is given, and --model is 'networks:p"),
        (["networks:Transformer", "--set", "width"], "--set is 'width'; allowed: name=value"),
        (
            ["networks:Transformer", "--set", "widht=3"],
            "--set widht is given, which networks:Transformer doesn't take; did you mean 'width'? "
            "allowed: activation, gated, heads, rate, sizes, width",
        ),
        (["networks:narrow", "--set", "key=3"], "which networks:narrow doesn't take; allowed: wi"),
        (["networks:Transformer", "--set", "width=8.5"], "--set width is '8.5'; allowed: int"),
        (["networks:Transformer", "--set", "rate=high"], "--set rate is 'high'; allowed: float"),
        (["networks:Transformer", "--set", "gated=1"], "--set gated is '1'; allowed: bool"),
        (["networks:Transformer", "--set", "sizes=3"], "--set sizes is '3'; allowed: tuple[int, "),
        (
            ["networks:Transformer", "--set", "activation=tan"],
            "--set activation is 'tan'; allowed: Literal['gelu', 'relu']",
        ),
        (
            ["networks:Transformer", "--set", "width=9"],
            "networks.Transformer fails on rows of shape [6] (AssertionError: ",
        ),
        (["dense", "--set", "width=8"], "--set is given; allowed: with --model package.module:C"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_no_file_names_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "networks.py").write_text("raise SystemExit('this ran')")
    for described in ('{kind_name = "networks:Transformer"}', '"networks:Transformer"'):
        (folder / "space.toml").write_text(
            f"model = {described}\n[train.learning_rate]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n"
        )
        with pytest.raises(aejax.InputError, match="networks:Transformer"):
            aejax.read_space(folder / "space.toml")
    for written in ("networks:Transformer", {"kind_name": "networks:Transformer"}):
        with pytest.raises(aejax.InputError, match="allowed"):
            aejax.config.from_dict({"model": written})
    shown = aejax.config.from_dict({"model": {"kind_name": "own", "name": "networks:Transformer"}})
    with pytest.raises(aejax.InputError, match="only the description is here"):
        aejax.fit(shown, rows(50, 0))
    assert "networks" not in sys.modules
    # Of a command line it runs, and one that ends itself is said to.
    assert main([*TRAIN, "networks:Transformer"]) == 2
    assert "can't be imported (this ran)" in capsys.readouterr().err
