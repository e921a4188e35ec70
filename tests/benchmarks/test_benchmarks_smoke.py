"""The harness of the benchmarks is right; how fast anything is, no test asserts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import figures, machine, precision, reference, report, systems, worker
from benchmarks.cases import CASES, Case, make_rows, make_weights
from benchmarks.harness import Measured, write_weights
from benchmarks.systems import with_aejax, with_flax, with_numpy, with_sklearn
from benchmarks.systems.job import Job

ROOT = Path(__file__).parents[2]
# Peers that a test must not find, installed or not.
ABSENT = ("torch", "pyod", "keras", "onnxruntime")


def run_suite(suite: str, tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Results and table of a suite, run as a person runs it, with some peers hidden."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ABSENT:
        (hidden / f"{name}.py").write_text(f'raise ModuleNotFoundError("No module named {name}")')
    done = subprocess.run(
        [
            *(sys.executable, "-m", f"benchmarks.{suite}", "--repeats", "2"),
            *("--json", str(tmp_path / "found.json"), "--plot", str(tmp_path / "found.png")),
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((tmp_path / "found.json").read_text()), done.stdout


def by_name(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["system"]: one for one in case["systems"]}


def test_scoring_suite(tmp_path: Path) -> None:
    given = (
        "--models",
        "ecg",
        "--rows",
        "70",
        "--peers",
        "flax",
        "numpy",
        "sklearn",
        "onnxruntime",
    )
    results, shown = run_suite("scoring", tmp_path, *given)
    assert results["environment"]["cores"] >= 1
    assert results["environment"]["versions"]["numpy"] == np.__version__
    (case,) = results["cases"]
    found = by_name(case)
    assert case["rows"] == 70
    assert set(case["limits"]) == {"product_float32", "product_bfloat16", "read"}
    for name in ("aejax", "flax", "numpy", "sklearn"):
        one = found[name]
        assert one["status"] == "ready"
        assert one["largest_difference"] < 1e-5
        assert one["rows_per_second"]["lowest"] <= one["rows_per_second"]["median"]
        assert len(one["seconds"]["end_to_end"]) == 2
        assert one["limit_share"] > 0
        assert one["peak_bytes"] > 1 << 20
    assert 1e-5 < found["aejax-bfloat16"]["largest_difference"] < 0.05
    assert found["aejax"]["device_rows_per_second"]["median"] > 0
    assert found["numpy"]["device_rows_per_second"] is None
    missing = found["onnxruntime"]
    assert missing["status"] == "missing"
    assert f"- onnxruntime: missing ({missing['reason']})" in shown
    assert missing["reason"].startswith("ModuleNotFoundError: No module named")
    # Heartbeats are no pixels, and so have no uint8 form.
    assert "aejax-uint8" not in found


@pytest.mark.slow
def test_products_of_fewer_bits() -> None:
    results = precision.measure(rows=64, repeats=1)
    for name, found in results["networks"].items():
        assert found["bfloat16"]["difference"] > found["float32"]["difference"] == 0
        assert 1e-6 < found["int8"]["difference"] < 0.1
        assert f"| {name} | int8 |" in precision.as_table(results)
    values = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    whole, scale = precision.quantise(values, -1)
    np.testing.assert_allclose(whole * scale, values, atol=float(np.max(scale)) / 2 * 1.001)
    assert np.max(np.abs(whole)) == 127


@pytest.mark.slow
def test_training_suite(tmp_path: Path) -> None:
    given = ("--models", "ecg", "--rows", "64", "--peers", "sklearn", "pyod")
    results, shown = run_suite("training", tmp_path, *given)
    (case,) = results["cases"]
    found = by_name(case)
    for name in ("aejax", "aejax-loop", "sklearn"):
        assert found[name]["status"] == "ready"
        assert len(found[name]["seconds"]["fit"]) == 2
        assert 0 < found[name]["loss"] < 1
        assert f"| {name} |" in shown
    # Both train from the same seed; one only adds what comes before and after.
    assert found["aejax"]["loss"] == pytest.approx(found["aejax-loop"]["loss"], rel=1e-6)
    assert found["pyod"]["status"] == "missing"


@pytest.mark.slow
def test_startup_suite(tmp_path: Path) -> None:
    results, shown = run_suite("startup", tmp_path, "--rows", "20", "--repeats", "1")
    found = {one["name"]: one for one in results["programs"]}
    assert found["aejax"]["status"] == found["import aejax"]["status"] == "ready"
    assert found["aejax"]["spread"]["median"] > found["python alone"]["spread"]["median"]
    assert found["pyod"]["status"] == found["keras"]["status"] == "missing"
    assert "- pyod: missing" in shown


@pytest.mark.slow
def test_stream_suite(tmp_path: Path) -> None:
    given = ("--rows", "300", "--csv-rows", "200", "--repeats", "1")
    results, shown = run_suite("stream", tmp_path, *given)
    found = results["rows_per_second"]
    measured = {f"{what} {kind}" for what in ("read", "score") for kind in ("parquet", "csv")}
    assert set(found) == {"device", "memory", "pyod", *measured}
    assert all(found[name]["median"] > 0 for name in measured)
    for kind, rows in (("parquet", 300), ("csv", 200)):
        file = results["files"][kind]
        assert file["said"]["rows"] == rows
        assert file["bytes"] > rows * 140 * 2
        assert file["peak_bytes"]["median"] > 50 << 20
        assert 0 < file["share"]["median"] < 1
    assert "300 rows" in shown
    assert "- pyod: missing" in shown


def job_of(case: Case, rows: int = 5, **more: Any) -> Job:
    made = make_rows(case, rows, dtype=more.pop("dtype", "float32"))
    return Job(case=case, weights=make_weights(case), rows=made, **more)


@pytest.mark.parametrize("name", list(CASES))
def test_aejax_and_the_reference_agree_on_every_network(name: str) -> None:
    job = job_of(CASES[name])
    expected = reference.scores(job.case, job.weights, job.rows)
    np.testing.assert_allclose(with_aejax.Scoring(job).score(job.rows), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlperf", "denoiser", "pooled", "vae", "superres"])
def test_flax_and_the_reference_agree(name: str) -> None:
    job = job_of(CASES[name])
    system = with_flax.Scoring(job)
    system.use({"batch_size": 3})
    expected = reference.scores(job.case, job.weights, job.rows)
    np.testing.assert_allclose(system.score(job.rows), expected, rtol=1e-5)
    placed, rows = system.place(job.rows)
    system.score_placed(placed)
    assert rows == 5


@pytest.mark.parametrize("module", [with_numpy, with_sklearn])
def test_batch_normalisation_is_folded_right(module: Any) -> None:
    job = job_of(CASES["mlperf"])
    system = module.Scoring(job)
    system.use({"batch_size": 2})
    expected = reference.scores(job.case, job.weights, job.rows)
    np.testing.assert_allclose(system.score(job.rows), expected, rtol=1e-5)


def test_bytes_stand_for_the_floats_that_they_are_stored_for() -> None:
    case = CASES["dense"]
    floats, stored = job_of(case), job_of(case, dtype="uint8")
    np.testing.assert_array_equal(floats.rows, stored.rows / np.float32(255))
    assert stored.rows.min() < 64
    assert stored.rows.max() > 192
    expected = reference.scores(case, stored.weights, stored.rows)
    np.testing.assert_allclose(expected, reference.scores(case, floats.weights, floats.rows), 1e-6)
    np.testing.assert_allclose(with_aejax.Scoring(stored).score(stored.rows), expected, rtol=1e-5)


def test_flops_are_counted_as_by_hand() -> None:
    assert CASES["dense"].score_flops == 2 * (784 * 64 + 64 * 784)
    down = 14 * 14 * 9 * 16 + 7 * 7 * 9 * 16 * 8
    up = 7 * 7 * 9 * 8 * 8 + 14 * 14 * 9 * 8 * 16 + 28 * 28 * 9 * 16
    assert CASES["denoiser"].score_flops == 2 * (down + up)
    dense = CASES["dense"]
    # Two products for the weights' gradients, one for the inner layer's input.
    assert dense.train_flops == dense.score_flops + 3 * 2 * 784 * 64
    vae = CASES["vae"]
    # The log variance is only needed in training.
    assert vae.score_flops == 2 * (784 * 500 + 500 * 20 + 20 * 500 + 500 * 784)
    products = 2 * (784 * 500 + 2 * 500 * 20 + 20 * 500 + 500 * 784)
    assert vae.train_flops == 3 * products - 2 * 784 * 500
    levels = 14 * 14 * 9 * (1 * 8 + 8 * 8) + 28 * 28 * 9 * (8 * 8 + 8 * 8 + 8 * 1)
    assert CASES["superres"].score_flops == 2 * levels
    assert dense.row_bytes("uint8") == 784 + 4


def serve(*commands: dict[str, Any]) -> list[dict[str, Any]]:
    answers = io.StringIO()
    worker.serve(io.StringIO("".join(json.dumps(c) + "\n" for c in commands)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_a_worker_answers_whatever_happens(tmp_path: Path) -> None:
    case = CASES["denoiser"]
    np.save(tmp_path / "rows.npy", make_rows(case, 4))
    write_weights(tmp_path / "weights.npz", make_weights(case))
    prepare = {
        "do": "prepare",
        "suite": "scoring",
        "case": "denoiser",
        "rows": str(tmp_path / "rows.npy"),
        "weights": str(tmp_path / "weights.npz"),
        "picks": [0, 3],
        "platform": "cpu",
    }
    not_applicable, failed, unprepared, done = serve(
        {**prepare, "system": "numpy"},
        {**prepare, "system": "numpy", "rows": str(tmp_path / "none.npy")},
        {"do": "run", "what": "end_to_end"},
        {"do": "finish"},
    )
    assert not_applicable == {"status": "not applicable", "reason": "no convolutions"}
    assert failed["status"] == unprepared["status"] == "failed"
    assert "FileNotFoundError" in failed["reason"]
    assert "Traceback" in failed["traceback"]
    assert done["status"] == "done"


def test_weights_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    weights = make_weights(CASES["pooled"])
    write_weights(tmp_path / "weights.npz", weights)
    found = worker.read_weights(str(tmp_path / "weights.npz"))
    assert len(found) == len(weights)
    for layer, other in zip(weights, found, strict=True):
        assert layer.keys() == other.keys()
        for name in layer:
            np.testing.assert_array_equal(layer[name], other[name])


class FakeSystem:
    """Takes its time by its choice: a batch of 4 and the second form are best."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.choices = {"batch_size": [2, 4, 8], "form": ["slow", "fast"]}
        self.used: list[dict[str, Any]] = []

    def use(self, choice: dict[str, Any]) -> None:
        self.used.append(choice)

    def score(self, rows: np.ndarray) -> np.ndarray:
        choice = self.used[-1]
        seconds = {2: 3.0, 4: 1.0, 8: 2.0}[choice["batch_size"]]
        self.clock[0] += seconds / (2 if choice["form"] == "fast" else 1) * len(rows) / 8
        return rows


def test_the_best_choice_is_found_and_left_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    system: Any = FakeSystem(clock)
    best, _, tried = worker._best_choice(system, np.zeros(8))
    assert best == {"batch_size": 4, "form": "fast"}
    assert system.used[-1] == best
    assert len(tried) == 4


def test_ratios_are_taken_repeat_by_repeat() -> None:
    # The machine was half as fast in the second repeat, which no ratio shows.
    ratio = figures.times_faster([1.0, 2.0, 1.0], [3.0, 6.0, None])
    assert ratio == {"median": 3.0, "lowest": 3.0, "highest": 3.0}
    assert figures.times_faster([1.0], []) is None
    assert figures.rates([2.0, None, 4.0], 8) == {"median": 3.0, "lowest": 2.0, "highest": 4.0}
    assert figures.rates([None], 8) is None


def test_the_share_of_the_limit_is_of_the_nearer_one() -> None:
    limits = {"product_float32": 100.0, "read": 10.0}
    share = figures.limit_share(5.0, limits, precision="float32", flops=10.0, moved=0.5)
    assert share == pytest.approx(0.5)
    share = figures.limit_share(5.0, limits, precision="float32", flops=10.0, moved=1.5)
    assert share == pytest.approx(0.75)
    assert figures.limit_share(5.0, {}, precision="float32", flops=1.0, moved=1.0) is None


def test_a_limit_is_the_best_of_all_repeats_and_libraries() -> None:
    def one(seconds: dict[str, list[float | None]], work: dict[str, float]) -> Measured:
        return Measured(system="x", status="ready", answer={"tasks": work}, seconds=seconds)

    first = one({"read_0": [2.0, 1.0], "read_1": [4.0, None]}, {"read_0": 8.0, "read_1": 8.0})
    second = one({"product_float32": [0.5]}, {"product_float32": 3.0})
    assert machine.limits_of([first, second]) == {"read": 8.0, "product_float32": 6.0}


def test_every_system_can_be_asked_for() -> None:
    for entries in (systems.SCORING, systems.TRAINING):
        for name, entry in entries.items():
            module, _, kind = entry.place.partition(":")
            source = ROOT / "benchmarks" / "systems" / f"{module}.py"
            assert name == entry.name
            assert f"class {kind}" in source.read_text()


def test_numbers_are_short() -> None:
    assert [report.short(v) for v in (None, 0.5, 1234.0, 2.5e6, 1e9)] == [
        "-", "0.5", "1.23 k", "2.5 M", "1 G",
    ]  # fmt: skip
