"""The report's threshold slider: its numbers are Python's, on the page in a browser too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from aejax.cli import main
from aejax.reporting.slider import MOST_STOPS, above, candidates

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SCORES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60)


@given(SCORES, SCORES)
def test_counts_are_those_of_a_comparison(scores: list[float], stops: list[float]) -> None:
    values, cuts = np.array(scores), np.array(stops)
    expected = [(values > cut).sum() for cut in cuts]
    np.testing.assert_array_equal(above(values, cuts), expected)


@pytest.mark.parametrize("rows", [3, 500, 100_000])
@pytest.mark.parametrize("threshold", [None, 0.123456789])
def test_candidates_fall_hold_the_threshold_and_the_top(rows: int, threshold: float | None) -> None:
    scores = np.random.default_rng(rows).normal(size=rows)
    stops = candidates(scores, threshold)
    assert (np.diff(stops) < 0).all()
    assert len(stops) <= MOST_STOPS + 1
    largest = np.sort(scores)[::-1][: MOST_STOPS // 4]
    assert np.isin(largest, stops).all()
    assert threshold is None or threshold in stops
    assert stops[-1] == min(scores.min(), np.inf if threshold is None else threshold)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slider") / "a run"
    assert main(["run", "digits", "--out", str(folder), "--quick", "--quiet"]) == 0
    return folder


def data_of(run: Path) -> dict[str, Any]:
    page = (run / "report.html").read_text()
    found = re.search(r'id="choose-data">(.*?)</script>', page, re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


DRAG = """
<script>
addEventListener("load", () => {
  const slider = document.getElementById("choose-slider"), seen = [];
  for (const at of POSITIONS) {
    if (at !== null) { slider.value = at; slider.dispatchEvent(new Event("input")); }
    const text = (name) => document.getElementById("choose-" + name).textContent;
    const names = "threshold flagged found missed false precision recall daily command".split(" ");
    seen.push(Object.fromEntries(names.map((name) => [name, text(name)])));
    seen.at(-1).lines = document.querySelectorAll("#choose-rows tbody tr").length;
    const scrolls = document.querySelector("#choose-rows .scroll");
    seen.at(-1).cut = scrolls.scrollWidth - scrolls.clientWidth;
  }
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>
</body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_shows_pythons_numbers(run: Path, tmp_path: Path) -> None:
    from aejax.recipes.digits import prepare

    data = data_of(run)
    positions = [None, 0, 5, len(data["stops"]) // 2, len(data["stops"]) - 1]
    page = (run / "report.html").read_text()
    drag = DRAG.replace("POSITIONS", json.dumps(positions))
    (tmp_path / "page.html").write_text(page.replace("</body>", drag))
    assert CHROMIUM is not None
    dumped = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={tmp_path / 'profile'}",
            # A phone's page: rows are stacked there instead of being cut.
            "--window-size=500,900",
            "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dumped, re.S)
    assert found, dumped[-500:]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    import aejax

    experiment = prepare(True)
    labels = np.asarray(experiment.is_anomaly)
    scores = aejax.load(run).score(experiment.x_test).astype(np.float64)
    for position, shown in zip(positions, seen, strict=True):
        threshold = data["stops"][data["start"] if position is None else position]
        flags = scores > threshold
        assert int(shown["flagged"].replace(",", "")) == flags.sum()
        assert int(shown["found"]) == (flags & labels).sum()
        assert int(shown["missed"]) == (~flags & labels).sum()
        assert int(shown["false"]) == (flags & ~labels).sum()
        if flags.any():
            precision = 100 * precision_score(labels, flags)
            assert shown["precision"] == f"{precision:.1f} %"
        assert shown["recall"] == f"{100 * recall_score(labels, flags):.1f} %"
        rate = 10_000 * (flags & ~labels).sum() / (~labels).sum()
        assert float(shown["daily"].replace(",", "")) == pytest.approx(rate, abs=0.51)
        assert shown["lines"] == min(50, flags.sum())
        assert shown["cut"] == 0
        assert float(shown["command"].rpartition(":")[2]) == threshold


def test_the_command_on_the_page_sets_the_threshold(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    import aejax

    data = data_of(run)
    chosen = data["stops"][7]
    program, *arguments = shlex.split(f"{data['command']}{chosen!r}")
    assert program == "aejax"
    assert main(arguments) == 0
    assert aejax.load(run).threshold.value == chosen  # type: ignore[union-attr]
    assert main(["calibrate", str(run), "--rule", "quantile:0.9"]) == 2
    assert "--input is missing" in capsys.readouterr().err


def test_a_row_says_why_and_nothing_ends_the_script(run: Path) -> None:
    data = data_of(run)
    assert data["rows"][0]["reason"].count("expected") == 3
    assert (run / "report.html").read_text().count("</script>") == 2
