"""What the README shows runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aejax.cli import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)
    scores, flags = names["scores"], names["flags"]
    assert isinstance(scores, np.ndarray)
    assert isinstance(flags, np.ndarray)
    assert scores.shape == flags.shape == (2000,)
    assert (tmp_path / "runs" / "sensors" / "detector.json").is_file()


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("train.csv", "holdout.csv", "today.parquet"):
        table = pd.DataFrame(random.normal(size=(300, 4)), columns=list("abcd"))
        table.insert(0, "pump_id", np.arange(300))
        if name.endswith("parquet"):
            table.to_parquet(name, index=False)
        else:
            table.to_csv(name, index=False)
    pd.DataFrame({"broken": np.arange(300) % 10 == 0}).to_csv("labels.csv", index=False)
    commands = [
        line for block in blocks("bash") for line in block.splitlines() if line.startswith("aejax ")
    ]
    space = "[train.learning_rate]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n"
    Path("space.toml").write_text(space)
    assert len(commands) == 8
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command


def test_every_file_that_it_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (README.parent / link).is_file(), link
