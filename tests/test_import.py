"""Importing aejax costs next to nothing, and no module starts a backend by being imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import subprocess
import sys

import pytest

import aejax

HEAVY = (
    "flax",
    "grain",
    "jax",
    "matplotlib",
    "numpy",
    "orbax",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
)

# JAX looks for its backend at the first device call, and there is none of this name.
NO_BACKEND = {**os.environ, "JAX_PLATFORMS": "none_of_this_name"}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=NO_BACKEND,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def loaded_by(code: str) -> set[str]:
    """The heavy packages that are loaded after running `code` in a new interpreter."""
    report = f"import sys; print(*({set(HEAVY)!r} & set(sys.modules)))"
    finished = run_python(f"{code}\n{report}")
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    assert loaded_by("import aejax") == set()


def test_settings_load_nothing_heavy() -> None:
    code = "import aejax; aejax.Config(model=aejax.Conv(), rule=aejax.MeanStd()); dir(aejax)"
    assert loaded_by(code) == set()


def test_a_heavy_import_is_noticed() -> None:
    assert loaded_by("import numpy") == {"numpy"}


def test_no_module_starts_a_backend_or_loads_tensorflow() -> None:
    code = """
import importlib, pkgutil, sys
import aejax
for module in pkgutil.walk_packages(aejax.__path__, "aejax."):
    if module.name != "aejax.__main__":
        importlib.import_module(module.name)
assert "jax" in sys.modules
assert "tensorflow" not in sys.modules, "tensorflow was imported"
"""
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr


def test_a_backend_that_starts_is_noticed() -> None:
    finished = run_python("import jax; jax.numpy.zeros(1)")
    assert finished.returncode != 0
    assert "none_of_this_name" in finished.stderr


@pytest.mark.parametrize("name", [name for name in aejax.__all__ if name != "__version__"])
def test_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(aejax, name)
    if inspect.ismodule(value):
        assert value.__name__ == f"aejax.{name}"
        assert value.__doc__
        return
    home = importlib.import_module(value.__module__)
    assert getattr(home, name) is value
    assert value.__module__.startswith("aejax.")
    assert value.__doc__
    assert name in dir(aejax)


def test_version_is_the_installed_one() -> None:
    assert aejax.__version__ == importlib.metadata.version("aejax")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'aejax' has no attribute 'Detectr'"):
        _ = aejax.Detectr  # type: ignore[attr-defined]
