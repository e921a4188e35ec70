"""What the pages of docs/ show runs, and the site is built without a warning."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aejax
from aejax.cli import main
from tests.plain import plain_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Run by tests of their own: they need an export or a search beside them.
ELSEWHERE = {"export.md", "tuning.md", "mixed.md"}
SLOW_PAGES = ("populations", "scale")
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if path.name not in ELSEWHERE
    and re.search(r"^```(python|bash)$", path.read_text(encoding="utf-8"), re.MULTILINE)
]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, and a trained run."""
    folder = tmp_path_factory.mktemp("workplace")
    random = np.random.default_rng(0)
    for name in ("train.csv", "holdout.csv", "today.parquet"):
        table = pd.DataFrame(random.normal(size=(300, 4)), columns=list("abcd"))
        if name.endswith("parquet"):
            table.insert(0, "pump_id", np.arange(300))
            table.to_parquet(folder / name, index=False)
        else:
            table.to_csv(folder / name, index=False)
    for name in ("readings/first.parquet", "readings/second.parquet"):
        table = pd.DataFrame(random.normal(size=(300, 4)), columns=list("abcd"))
        table.insert(0, "pump_id", np.arange(300))
        (folder / name).parent.mkdir(exist_ok=True)
        table.to_parquet(folder / name, index=False)
    for name in ("readings.parquet", "new/monday.parquet"):
        table = pd.DataFrame(random.normal(size=(300, 4)), columns=list("abcd"))
        table.insert(0, "store", [f"store {number % 3 + 6}" for number in range(300)])
        (folder / name).parent.mkdir(exist_ok=True)
        table.to_parquet(folder / name, index=False)
    for name in ("pumps.csv", "week.csv"):
        wave = np.sin(2 * np.pi * np.arange(600) / 24)[:, None]
        table = pd.DataFrame(wave + 0.1 * random.normal(size=(600, 2)), columns=["flow", "heat"])
        table.insert(0, "time", pd.date_range("2024-01-01", periods=600, freq="h"))
        table.to_csv(folder / name, index=False)
    spans = {"start": table["time"][[300, 400]], "end": table["time"][[320, 420]].array}
    pd.DataFrame(spans).to_csv(folder / "faults.csv", index=False)
    shutil.copyfile(folder / "train.csv", folder / "rows.csv")
    labels = pd.DataFrame({"broken": np.arange(300) % 10 == 0})
    labels.to_csv(folder / "labels.csv", index=False)
    config = plain_config(model=aejax.Dense(hidden=(8, 2)), train=aejax.Train(epochs=2))
    detector = aejax.fit(config, pd.read_csv(folder / "train.csv"))
    detector.save(folder / "runs" / "pumps")
    return folder


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of every block that is to be run, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(python|bash)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem in SLOW_PAGES))
        for page in PAGES
    ],
)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    if page.name == "index.md":
        shutil.rmtree(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    # A module, because dataclasses look for the one that a class was made in.
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for language, content in blocks(page):
        if language == "python":
            exec(compile(content, str(page), "exec"), module.__dict__)
            continue
        for line in content.splitlines():
            assert line.startswith("aejax "), line
            assert main(shlex.split(line)[1:]) == 0, line


def test_the_service_answers(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fastapi = pytest.importorskip("fastapi", reason="the extra dev is not installed")
    (block,) = [text for _, text in blocks(DOCS / "export.md") if "FastAPI()" in text]
    monkeypatch.chdir(workplace)
    module = types.ModuleType("serve")
    monkeypatch.setitem(sys.modules, "serve", module)
    exec(compile(block, "serve.py", "exec"), module.__dict__)
    rows = [{"a": 0.1, "b": 0.0, "c": -0.2, "d": 0.3}, {"a": 90, "b": 0, "c": 0, "d": 0}, {"a": 1}]
    assert "/score" in [route.path for route in module.app.routes]
    answers = module.score(module.Rows(rows=rows))
    json.dumps(answers, allow_nan=False)
    expected = aejax.load("runs/pumps").score(pd.DataFrame(rows[:2]))
    np.testing.assert_allclose([answer["score"] for answer in answers[:2]], expected, rtol=1e-5)
    assert [answer["flagged"] for answer in answers] == [False, True, False]
    assert answers[1]["why"][0] == "a"
    assert answers[2]["score"] is None
    assert answers[2]["reason"] == "b is nan"
    with pytest.raises(fastapi.HTTPException, match="allowed: a, b, c, d"):
        module.score(module.Rows(rows=[{"flow": 1}]))


# Those that take longest only when asked for.
SLOW_NOTEBOOKS = ("denoise",)


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(
            path, id=path.stem, marks=[pytest.mark.slow] if path.stem in SLOW_NOTEBOOKS else []
        )
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, data_dir: Path) -> None:
    """Its cells of code, in a process of their own; no Jupyter is needed for that."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    (tmp_path / "cells.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "cells.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_output(notebook: Path) -> None:
    """As `scripts/notebooks.py` leaves it: in order, no cell failed, drawings are small."""
    written = json.loads(notebook.read_text(encoding="utf-8"))
    assert (written["nbformat"], written["nbformat_minor"]) == (4, 5)
    identities = [cell["id"] for cell in written["cells"]]
    assert len(set(identities)) == len(identities)
    for cell in written["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        for output in cell.get("outputs", ()):
            assert output["output_type"] in ("execute_result", "display_data")
            assert len(json.dumps(output)) < 200_000
    code = [cell for cell in written["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        draws = "plt.subplots" in "".join(cell["source"]) or "plt.plot" in "".join(cell["source"])
        kinds = {kind for output in cell["outputs"] for kind in output["data"]}
        assert not draws or "image/png" in kinds


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    shown = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert set(aejax.__all__) - {"__version__"} <= shown


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_public_names_have_examples_and_all_examples_run(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    detector, rows = aejax.load("runs/pumps"), pd.read_csv("train.csv")
    given = {"aejax": aejax, "np": np, "detector": detector, "rows": rows}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    shown = set()
    for module in pkgutil.walk_packages(aejax.__path__, "aejax."):
        if module.name != "aejax.__main__":
            loaded = importlib.import_module(module.name)
            for test in finder.find(loaded, globs=vars(loaded) | given):
                if test.examples:
                    shown.add(test.name)
                    runner.run(test)
    assert runner.failures == 0
    public = [getattr(aejax, name) for name in aejax.__all__ if name != "__version__"]
    public += [aejax.estimator.AutoEncoder, aejax.estimator.PyODAutoEncoder]
    names = {f"{one.__module__}.{one.__name__}" for one in public if one is not aejax.estimator}
    assert names - shown == set()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reference.html").is_file()
    # No page asks another host for anything.
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text()
        )
        assert not [address for address in loaded if "canonical" not in address], page.name
