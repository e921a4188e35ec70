"""The package's floors: a stage knows the stages before it and none after it; and its words."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aejax"

# From the ground up: a module imports its own floor and those below it.
FLOORS = (
    "config",
    "rules",
    "data",
    "models",
    "core",
    "row_scores",
    "training",
    "detection",
    # Below both that hand over detectors to be exported: scores folders are inspected beside
    # exports, and an export knows nothing of files of rows.
    "exporting",
    "estimator",
    "scoring",
    "reporting",
    "recipes",
    "commands",
    "commands",
    "cli",
    "__main__",
)
# Narrower than the floors alone would have it: what else of aejax a floor may import.
NARROW = {
    "models": ("config", "data.schema"),
    "core": ("config", "models"),
    "row_scores": ("config", "models", "core"),
}
# The only files that may import these.
HOMES = {
    "orbax": "training/checkpoint.py",
    "jax.export": "core/programs.py",
    "jax.jit": "core/steps.py",
    "jax.pjit": "core/steps.py",
    "ray": "scoring/ray.py",
    # What these compute depends on JAX's settings, which `models/backend.py` has as they should be.
    "jax.eval_shape": "models/backend.py",
    "jax.make_jaxpr": "exporting/onnx_graph.py",
}
# Above `row_scores` nothing computes with JAX but by the compiled programs of `core/steps.py`.
COMPUTES = ("jax.numpy", "jax.lax", "jax.nn", "jax.random", "jax.vmap", "jax.grad")
# Reading what these wrote can run code.
FORBIDDEN = ("pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
JAX = ("jax", "jaxlib", "flax", "optax", "orbax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Use:
    """A dotted name that a module imports or reaches into, and where."""

    name: str
    line: int
    is_import: bool


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def uses(tree: ast.Module, package: str) -> Iterator[Use]:
    """Everything that a module names of other modules, wherever in it that stands.

    Args:
        tree: the parsed module.
        package: dotted name of the package that the module lies in.
    """
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                aliases[alias.asname or root] = alias.name if alias.asname else root
                yield Use(name=alias.name, line=node.lineno, is_import=True)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, source] if source else above)
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{source}.{alias.name}"
                yield Use(name=f"{source}.{alias.name}", line=node.lineno, is_import=True)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield Use(name=name.value, line=node.lineno, is_import=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            if root in aliases:
                yield Use(name=f"{aliases[root]}.{rest}", line=node.lineno, is_import=False)


def fault_of(use: Use, file: str) -> str | None:
    """What is wrong with a use in a file (its path inside aejax/), or None."""
    floor = file.removesuffix(".py").partition("/")[0]
    top = use.name.partition(".")[0]
    if top in FORBIDDEN:
        return "can run code when read"
    for name, home in HOMES.items():
        if within(use.name, name) and file != home:
            return f"only {home} may use {name}"
    if FLOORS.index(floor) > FLOORS.index("row_scores") and any(
        within(use.name, name) for name in COMPUTES
    ):
        return "computes outside of core/steps.py"
    if not use.is_import:
        return None
    if (
        floor == "config"
        and top not in sys.stdlib_module_names
        and not within(use.name, "aejax.config")
    ):
        return "config imports the standard library only"
    if floor in ("rules", "data") and top in JAX:
        return f"{floor} runs on the host and imports no JAX"
    if top != "aejax":
        return None
    target = use.name.partition(".")[2]
    if target == "__version__":
        return None
    floor_of_target = target.partition(".")[0]
    if floor_of_target not in FLOORS:
        return "import a public name from where it lives (only __version__ from aejax)"
    if FLOORS.index(floor_of_target) > FLOORS.index(floor):
        return f"{floor} lies below {floor_of_target}"
    allowed = NARROW.get(floor)
    if allowed and not any(within(target, name) for name in (floor, *allowed)):
        return f"{floor} may import {' and '.join(allowed)} only"
    return None


def faults(package: Path) -> list[str]:
    """Every breach of the rules under a package folder, as "file:line: name: why"."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if file == "__init__.py":  # the public names; test_import.py looks at it
            continue
        if file.removesuffix(".py").partition("/")[0] not in FLOORS:
            found.append(f"{file}: lies on no floor")
            continue
        inside = ".".join(("aejax", *path.relative_to(package).parts[:-1]))
        for use in uses(ast.parse(path.read_text(encoding="utf-8")), inside):
            why = fault_of(use, file)
            if why:
                found.append(f"{file}:{use.line}: {use.name}: {why}")
    return found


def test_the_package_keeps_its_floors() -> None:
    assert list(PACKAGE.rglob("*.py"))
    assert faults(PACKAGE) == []


def write_module(package: Path, file: str, code: str) -> None:
    path = package / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)


@pytest.mark.parametrize(
    ("file", "code", "fault"),
    [
        ("config/rules.py", "import numpy", "config imports the standard library only"),
        ("config/rules.py", "from aejax.data import schema", "config imports the standard library"),
        (
            "config/rules.py",
            "from aejax.rules import quantile",
            "config imports the standard library",
        ),
        ("rules/quantile.py", "import jax.numpy as jnp", "rules runs on the host"),
        (
            "rules/quantile.py",
            "from aejax.detection import threshold",
            "rules lies below detection",
        ),
        ("data/files.py", "import jax.numpy as jnp", "data runs on the host"),
        ("data/files.py", "from aejax.core.steps import score", "data lies below core"),
        ("data/files.py", "def f():\n    from ..core import steps", "data lies below core"),
        ("data/files.py", "import importlib\nimportlib.import_module('aejax.cli')", "below cli"),
        ("models/dense.py", "from aejax.data import files", "config and data.schema only"),
        ("core/errors.py", "from aejax.data.batches import Batch", "config and models only"),
        ("core/errors.py", "import jax\nf = jax.jit(abs)", "only core/steps.py may use jax.jit"),
        ("core/errors.py", "from jax import jit as compile", "only core/steps.py may use jax.jit"),
        ("models/dense.py", "import jax as j\n@j.jit\ndef f(x): ...", "only core/steps.py"),
        ("training/loop.py", "from functools import partial\nimport jax\npartial(jax.jit)", "jit"),
        ("training/loop.py", "from orbax.checkpoint import v1", "training/checkpoint.py"),
        ("detection/detector.py", "from jax import export", "only core/programs.py"),
        ("detection/detector.py", "import jax.numpy as jnp", "outside of core/steps.py"),
        ("detection/detector.py", "import jax\njax.vmap(abs)", "outside of core/steps.py"),
        ("detection/loading.py", "import jax\njax.eval_shape(abs)", "only models/backend.py"),
        ("detection/detector.py", "import jax\njax.export.export", "only core/programs.py"),
        ("scoring/stream.py", "import ray.data", "only scoring/ray.py"),
        ("scoring/stream.py", "import pickle", "can run code when read"),
        ("scoring/stream.py", "from joblib import dump", "can run code when read"),
        ("scoring/stream.py", "if True:\n    from aejax.reporting import plots", "reporting"),
        (
            "exporting/export.py",
            "from aejax.scoring import stream",
            "exporting lies below scoring",
        ),
        ("recipes/digits.py", "import aejax", "import a public name from where it lives"),
        ("recipes/digits.py", "from aejax import fit", "import a public name from where it lives"),
        ("recipes/digits.py", "from aejax import cli", "recipes lies below cli"),
        ("utils.py", "", "lies on no floor"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, code: str, fault: str) -> None:
    write_module(tmp_path, file, code)
    found = faults(tmp_path)
    assert found
    assert all(line.startswith(file) and fault in line for line in found)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("__init__.py", "from aejax.config import Config\nfrom aejax.scoring import stream"),
        ("config/rules.py", "import json\nfrom aejax.config.checks import check"),
        ("rules/quantile.py", "from aejax.config.checks import check"),
        ("core/steps.py", "import jax\nfrom aejax.models import build\nf = jax.jit(abs)"),
        ("data/files.py", "import numpy as np\nfrom aejax.config import InputError"),
        ("models/dense.py", "from aejax.data.schema import Schema\nfrom . import layers"),
        ("training/checkpoint.py", "from orbax.checkpoint import v1 as ocp"),
        ("core/programs.py", "from jax import export\nexport.export"),
        ("scoring/ray.py", "import ray.data\nray.data.read_parquet"),
        ("recipes/runner.py", "from aejax import __version__"),
        ("cli.py", "from aejax import recipes\nfrom aejax.detection.detector import fit"),
        ("detection/detector.py", "# jax.jit is in core/steps.py\nrule = 'import pickle'"),
    ],
)
def test_what_the_rules_allow_is_no_breach(tmp_path: Path, file: str, code: str) -> None:
    write_module(tmp_path, file, code)
    assert faults(tmp_path) == []


# Words of the house that the field doesn't have, as words and as parts of names.
PRIVATE = r"(?<![a-z])(faces?|roads?|books?|told|looked[ _]at|\w+-manieth)(?![a-z])"


def private_words(path: Path) -> list[str]:
    """Lines of a file with a private word."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [f"{path.name}: {line}" for line in lines if re.search(PRIVATE, line, re.IGNORECASE)]


def test_words_are_those_of_the_field() -> None:
    root = PACKAGE.parent
    suffixes = (".css", ".js", ".py", ".template")
    texts = [path for path in sorted(PACKAGE.rglob("*")) if path.suffix in suffixes]
    texts += [path for path in sorted((root / "scripts").iterdir()) if path.is_file()]
    for folder in ("benchmarks", "tests"):
        texts += [path for path in sorted((root / folder).rglob("*.py")) if path != Path(__file__)]
    texts += [*sorted((root / "docs").rglob("*.md")), *sorted(root.glob("*.md"))]
    assert [line for path in texts for line in private_words(path)] == []


def test_a_name_says_what_it_holds() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        # What a row holds, where that differs from what is expected, is a field of reasons.
        fields = {id(node.target) for node in nodes if isinstance(node, ast.AnnAssign)}
        names = [getattr(node, "id", getattr(node, "arg", None)) for node in nodes]
        vague = [
            node.lineno
            for node, name in zip(nodes, names, strict=True)
            if isinstance(node, ast.Name | ast.arg)
            and name in ("found", "given")
            and id(node) not in fields
        ]
        assert vague == [], path


def test_a_first_line_says_what_is_returned_or_done() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, documented):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                assert not first.startswith("Of "), f"{path.relative_to(PACKAGE)}: {first}"
