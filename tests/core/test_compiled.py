"""No wrong numbers from below: programs at many rows and few features, optimised as users' are.

The other tests compile with nothing optimised (tests/conftest.py), and so can't see a compiler
that optimises wrongly, as jax 0.10.2 does (jax issue 39103).

With the lowest and with the newest versions that pyproject.toml allows, every case:

    for how in "3.11 lowest-direct" "3.13 highest"; do
        set -- $how
        uv run --no-project --isolated --python $1 --resolution $2 --with '.[dev]' \
            python -m pytest -m "" tests/core/test_compiled.py
    done
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

pytest.importorskip("equinox")

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("compiled_program.py")
# Float32 gives 3e-5 at most; what was wrong was wrong by more than its own size.
MOST = 3e-4


def differences(out: Path, which: str) -> dict[str, float]:
    """What `compiled_program.py` finds in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "XLA_FLAGS": "",
        # What other flags or another release compiled is nothing to test.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(out), which],
        capture_output=True,
        text=True,
        timeout=3000,
        env=environment,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = json.loads(out.read_text())
    assert found["jax"] == jax.__version__
    return found["differences"]


def assert_right(found: dict[str, float]) -> None:
    wrong = {name: off for name, off in found.items() if not off <= MOST}
    assert not wrong, f"jax {jax.__version__}: {wrong}"


def test_forms_scores_losses_and_gradients_are_what_they_are_uncompiled(tmp_path: Path) -> None:
    found = differences(tmp_path / "found.json", "few")
    # Each number of features, with the form that failed.
    assert {f"raw to 3, plain, {features}" for features in range(1, 9)} <= found.keys()
    assert_right(found)


@pytest.mark.slow
def test_every_one_of_them_with_1_to_8_features(tmp_path: Path) -> None:
    """scripts/test.sh -m slow tests/core/test_compiled.py"""
    found = differences(tmp_path / "found.json", "all")
    assert len(found) > 500
    assert_right(found)
