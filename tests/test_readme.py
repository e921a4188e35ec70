"""What the README shows runs."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

import aejax
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
    runpy.run_path(str(README.parent / "scripts" / "sample_data.py"), run_name="sample")["write"](
        tmp_path
    )
    commands = [
        line for block in blocks("bash") for line in block.splitlines() if line.startswith("aejax ")
    ]
    assert len(commands) == 9
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    judged = aejax.evaluate("scores/today", "labels.csv", label_column="broken")
    assert judged["joined_by"] == ["pump_id"]
    assert judged["anomaly_positive"]["recall"] > 0.9


def test_every_measured_figure_is_in_the_result_beside_it() -> None:
    text = README.read_text(encoding="utf-8")
    passages = [line for line in text.splitlines() if line.startswith("|")]
    passages += re.findall(r"^- .*?(?=^\n|^- )", text, re.DOTALL | re.MULTILINE)
    checked = 0
    for passage in passages:
        results = re.findall(r"\((benchmarks/results/\w+\.md)\)", passage)
        content = "".join((README.parent / name).read_text(encoding="utf-8") for name in results)
        figures = re.findall(
            r"(?:(?<=\| )[\d.]+(?: [kM])?\b|[\d.,]+(?: [kM]\b|x\b| MiB| rows,))", passage
        )
        for figure in figures if results else ():
            assert figure.removesuffix(" rows,") in content, f"{figure} isn't in {results}"
            checked += 1
    assert checked > 30


def test_every_file_that_it_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (README.parent / link).is_file(), link
