"""What the package is delivered with: declared dependencies, locks, types, a wheel that works."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aejax.config import Config, InputError
from aejax.data import prepare
from aejax.data.records import open_array_record
from aejax.data.rows import Selection
from aejax.detection.quality import structural_similarity
from aejax.detection.tuning import ask_and_tell
from aejax.exporting.onnx_graph import Graph
from aejax.recipes.mnist_compression import picture_bytes
from aejax.scoring.ray import _ray
from aejax.training.history import History
from aejax.training.search_space import SearchSpace

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]


def extra_of(name: str) -> list[Requirement]:
    """What an extra installs, with what the extras do that it names."""
    requirements = [Requirement(text) for text in PROJECT["optional-dependencies"][name]]
    own = [r for r in requirements if r.name != "aejax"]
    named = [extra for r in requirements if r.name == "aejax" for extra in r.extras]
    return own + [r for extra in named for r in extra_of(extra)]


EXTRAS = {name: extra_of(name) for name in PROJECT["optional-dependencies"]}
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


def module_of(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return MODULES.get(name, name.replace("-", "_"))


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Top-level names of packages that code imports, each with the extra that it says it needs."""
    blocks: list[tuple[ast.AST, str | None]] = [(ast.parse(path.read_text("utf-8")), None)]
    while blocks:
        block, extra = blocks.pop()
        for node in ast.iter_child_nodes(block):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], extra) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0], extra
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            elif isinstance(node, ast.With):
                how = node.items[0].context_expr
                said = isinstance(how, ast.Call) and ast.unparse(how.func) == "extra"
                blocks.append((node, ast.literal_eval(how.args[0]) if said else extra))  # type: ignore[attr-defined]
            else:
                blocks.append((node, extra))


def imported_by(folder: Path) -> dict[tuple[str, str | None], str]:
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for name, extra in imports(path):
            if name not in sys.stdlib_module_names and name != "aejax":
                found.setdefault((name, extra), path.relative_to(ROOT).as_posix())
    return found


def test_every_imported_package_is_declared() -> None:
    declared = {module_of(requirement) for requirement in NEEDED}
    assert len(NEEDED) <= 12
    used = imported_by(ROOT / "aejax")
    for (name, extra), where in used.items():
        allowed = declared if extra is None else set(map(module_of, EXTRAS[extra]))
        assert name in allowed, f'{where}: {name}; allowed: with extra("..."), or a dependency'
    # And nothing is declared that nothing imports.
    spare = declared - {name for name, _ in used} - {"flatbuffers"}
    assert not spare


NEEDS: dict[tuple[str, str], Callable[[Path], object]] = {
    ("array_record", "recipes"): lambda tmp: open_array_record(tmp, Selection(), None),
    ("PIL", "recipes"): lambda _: picture_bytes(np.zeros((1, 8, 8, 1), np.uint8), "PNG"),
    ("skimage", "recipes"): lambda _: structural_similarity(*np.zeros((2, 1, 16, 16, 1))),
    ("tensorflow_datasets", "recipes"): lambda tmp: prepare._write_arrays("ecg5000", tmp, tmp),
    ("tensorflow", "prepare"): lambda tmp: prepare._write_records("mnist", tmp),
    ("tensorboardX", "tensorboard"): lambda tmp: History(
        rows=1, epochs=1, in_steps=False, folder=None, tensorboard=tmp, progress=False
    ).__enter__(),
    ("ray", "ray"): lambda _: _ray(),
    ("optuna", "optuna"): lambda _: ask_and_tell(
        SearchSpace(base=Config(), searched={}), 1, 0, lambda trials: list(trials), maximise=True
    ),
    ("onnx", "onnx"): lambda _: Graph("rows", {}).constant(1.0),
}


@pytest.mark.parametrize(("package", "extra"), NEEDS)
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert package in map(module_of, EXTRAS[extra])
    for name in [package, *(n for n in sys.modules if n.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as raised:
        NEEDS[package, extra](tmp_path)
    assert str(raised.value) == f'{package} is not installed; allowed: pip install "aejax[{extra}]"'


WITHOUT = """
import importlib, pkgutil, sys
for name in {missing}:
    sys.modules[name] = None
import aejax
for module in pkgutil.walk_packages(aejax.__path__, "aejax."):
    if module.name not in ("aejax.__main__", "aejax.data.ecg5000"):
        importlib.import_module(module.name)
"""


def test_without_extras_every_module_is_imported() -> None:
    """But for the one that is a TensorFlow Datasets builder."""
    core = {module_of(r) for r in NEEDED}
    extras = ("equinox", "grain", "onnx", "optuna", "prepare", "ray", "tensorboard")
    # Matplotlib needs Pillow, too.
    missing = {module_of(r) for name in extras for r in EXTRAS[name]} - core - {"PIL"}
    code = WITHOUT.format(missing=sorted(missing))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_package_that_tests_import_is_declared() -> None:
    declared = {module_of(r) for r in [*NEEDED, *(r for name in EXTRAS for r in EXTRAS[name])]}
    own = {"tests", "benchmarks", "conftest", *(p.stem for p in (ROOT / "scripts").glob("*.py"))}
    # Written into an export for people; a test imports it from there.
    own |= {"scorer"}
    undeclared = {
        name: where
        for (name, _), where in imported_by(ROOT / "tests").items()
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
