"""Runs from several seeds: what is summarised, kept, and not done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from aejax import recipes
from aejax.config import InputError
from aejax.recipes.seeds import run_seeds, summarise


def test_a_summary_is_numpys_median_and_range() -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    runs = {seed: {"a": row[0], "b": row[1]} for seed, row in enumerate(values)}
    found = summarise(runs, {"b": 0.25})
    assert found["a"] == {
        "median": np.median(values[:, 0]),
        "lowest": values[:, 0].min(),
        "highest": values[:, 0].max(),
    }
    assert found["b"]["published"] == 0.25
    assert found["b"]["below_published"] == (values[:, 1] < 0.25).mean()


def test_what_only_some_runs_measured_is_left_out() -> None:
    assert list(summarise({0: {"a": 1.0, "b": 2.0}, 1: {"a": 3.0}}, {})) == ["a"]


@pytest.mark.slow
def test_seeds_differ_are_kept_and_more_can_be_added(tmp_path: Path) -> None:
    recipe = recipes.find("digits")
    first = run_seeds(recipe, tmp_path / "runs", seeds=2, quick=True)
    assert first["summary"]["auroc"]["lowest"] < first["summary"]["auroc"]["highest"]
    written = {
        seed: (tmp_path / f"runs/seed-{seed}/metrics.json").stat().st_mtime_ns for seed in (0, 1)
    }
    second = run_seeds(recipe, tmp_path / "runs", seeds=3, quick=True)
    for seed, at in written.items():
        assert (tmp_path / f"runs/seed-{seed}/metrics.json").stat().st_mtime_ns == at
    every = json.loads((tmp_path / "runs/metrics.json").read_text())["metrics"]["seeds"]
    values = [every[str(seed)]["auroc"] for seed in range(3)]
    assert second["summary"]["auroc"]["median"] == np.median(values)
    assert Path(second["report"]).read_text().count("<h2") >= 3
    changed = dataclasses.replace(
        recipe.config, train=dataclasses.replace(recipe.config.train, learning_rate=0.5)
    )
    with pytest.raises(InputError, match=r"config\.train\.learning_rate is .* there and 0.5 here"):
        run_seeds(
            dataclasses.replace(recipe, config=changed), tmp_path / "runs", seeds=2, quick=True
        )


@pytest.mark.slow
def test_seeds_trained_together_are_what_they_are_alone(tmp_path: Path) -> None:
    recipe = recipes.find("digits")
    alone = run_seeds(recipe, tmp_path / "alone", seeds=3, quick=True)
    together = run_seeds(recipe, tmp_path / "together", seeds=3, quick=True, together=True)
    for name, facts in alone["summary"].items():
        for kind in ("median", "lowest", "highest"):
            assert together["summary"][name][kind] == pytest.approx(facts[kind], rel=1e-3, abs=1e-3)
    detector = json.loads((tmp_path / "together/seed-1/detector/detector.json").read_text())
    assert detector["provenance"]["trained_together"] == 3
    # The folders are those of runs alone: more seeds can be added either way.
    more = run_seeds(recipe, tmp_path / "together", seeds=4, quick=True)
    assert more["seeds"] == 4
    with pytest.raises(InputError, match="without --ensemble"):
        run_seeds(recipe, tmp_path / "no", seeds=2, quick=True, together=True, ensemble=2)
    with pytest.raises(InputError, match="mnist_latent is not"):
        run_seeds(recipes.find("mnist_latent"), tmp_path / "not", seeds=2, together=True)


@pytest.mark.slow
def test_a_watched_recipe_trained_together(tmp_path: Path, data_dir: Path) -> None:
    assert data_dir.is_dir()
    recipe = recipes.find("mnist_one_plain")
    alone = run_seeds(recipe, tmp_path / "alone", seeds=2, quick=True)
    together = run_seeds(recipe, tmp_path / "together", seeds=2, quick=True, together=True)
    for name, facts in alone["summary"].items():
        assert together["summary"][name]["median"] == pytest.approx(
            facts["median"], rel=1e-2, abs=5e-3
        )
    assert "published" in Path(together["report"]).read_text()


@pytest.mark.parametrize("seeds", [0, -1, 1001])
def test_a_wrong_number_of_seeds_is_refused(tmp_path: Path, seeds: int) -> None:
    with pytest.raises(InputError, match=f"seeds is {seeds}; allowed: 1 to 1000"):
        run_seeds(recipes.find("digits"), tmp_path / "runs", seeds=seeds)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run_seeds(recipes.find("digits"), tmp_path, seeds=1, quick=True)
    with pytest.raises(InputError, match=r"data\.recipe is .digits. there"):
        run_seeds(recipes.find("ecg5000"), tmp_path, seeds=1, quick=True)
