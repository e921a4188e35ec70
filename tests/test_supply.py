"""What the package is delivered with: declared dependencies, locks, types, a wheel that works."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}
# What a module is called, where the distribution has another name.
MODULES = {
    "importlib-resources": "importlib_resources",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "tensorflow-cpu": "tensorflow",
    "tensorflow-datasets": "tensorflow_datasets",
    "tensorboardx": "tensorboardX",
}
# Not imported here, but without them something that is imported doesn't work.
FOR_OTHERS = {"flatbuffers", "importlib-resources"}


def module_of(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return MODULES.get(name, name.replace("-", "_"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level names of imported packages, and whether only types need them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], id(node) in typing_only
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0], id(node) in typing_only


def imported_by(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for name, typing_only in imports(path):
            if not typing_only and name not in sys.stdlib_module_names and name != "aejax":
                found.setdefault(name, path.relative_to(ROOT).as_posix())
    return found


def test_every_imported_package_is_declared() -> None:
    declared = {module_of(requirement) for requirement in NEEDED}
    # What stands behind features of the package; the others are for those who work on it.
    extras = ("equinox", "onnx", "optuna", "prepare", "ray")
    optional = {module_of(r) for name in extras for r in EXTRAS[name]}
    used = imported_by(ROOT / "aejax")
    undeclared = {name: where for name, where in used.items() if name not in declared | optional}
    assert not undeclared
    # And nothing is declared that nothing imports.
    spare = {r.name for r in NEEDED if module_of(r) not in used} - FOR_OTHERS
    assert not spare


def test_every_package_that_tests_import_is_declared() -> None:
    declared = {module_of(r) for r in [*NEEDED, *(r for name in EXTRAS for r in EXTRAS[name])]}
    own = {"tests", "benchmarks", "conftest", *(p.stem for p in (ROOT / "scripts").glob("*.py"))}
    # Written into an export for people; a test imports it from there.
    own |= {"scorer"}
    undeclared = {
        name: where
        for name, where in imported_by(ROOT / "tests").items()
        if name not in declared | own | {"_pytest"}
    }
    assert not undeclared


def test_every_dependency_says_its_oldest_and_its_newest_version() -> None:
    for requirement in [*NEEDED, *(r for name in EXTRAS for r in EXTRAS[name])]:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators & {">=", "=="}, f"{requirement} has no lower bound"
        assert operators & {"<", "=="}, f"{requirement} has no upper bound"


def locked(name: str) -> dict[str, list[str]]:
    """Versions of every package in a lock; more than one where systems differ."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[.*])?==([^ ;\\]+)", line):
            found.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return found


@pytest.mark.parametrize(("name", "extras"), [("demo", ()), ("test", ("dev", "prepare"))])
def test_the_locks_hold_what_is_declared(name: str, extras: tuple[str, ...]) -> None:
    versions = locked(name)
    assert len(versions) > len(NEEDED)
    for requirement in [*NEEDED, *(r for extra in extras for r in EXTRAS[extra])]:
        found = versions.get(canonicalize_name(requirement.name))
        assert found, f"{requirement} isn't in locks/{name}.txt: run scripts/lock.sh"
        for version in found:
            assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_locks_name_hashes_and_no_host(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_types_are_shipped() -> None:
    assert (ROOT / "aejax" / "py.typed").is_file()
    installed = importlib.metadata.distribution("aejax")
    assert installed.metadata["Requires-Python"] == PROJECT["requires-python"]


USE = """
import sys
from pathlib import Path
import numpy as np
import aejax
home = Path(aejax.__file__)
assert "site-packages" in home.parts, home
assert (home.parent / "py.typed").is_file()
x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
np.save("rows.npy", x)
detector = aejax.fit(aejax.Config(model=aejax.Dense(hidden=(3,)), train=aejax.Train(epochs=2)), x)
detector.save("run")
assert aejax.score_files(detector, "rows.npy", "scores")["rows"] == 200
"""


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    """Built and installed into a new environment, with this one's packages behind it."""
    run = {"cwd": tmp_path, "check": True, "timeout": 600}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], **run)  # type: ignore[call-overload]
    (wheel,) = tmp_path.glob("aejax-*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], **run)  # type: ignore[call-overload]
    (packages,) = venv.glob("lib/python*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, wheel], **run)  # type: ignore[call-overload]
    # Found after what the new environment has: everything but aejax comes from here.
    behind = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages / "behind.pth").write_text("\n".join(behind) + "\n")
    python = venv / "bin" / "python"
    how = {**run, "env": environment, "capture_output": True, "text": True}
    version = subprocess.run([python, "-m", "aejax", "--version"], **how)  # type: ignore[call-overload]
    assert version.stdout.split()[-1] == PROJECT["version"]
    subprocess.run([python, "-W", "ignore", "-c", USE], **how)  # type: ignore[call-overload]
    assert (tmp_path / "scores" / "_SUCCESS").is_file()
