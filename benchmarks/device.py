"""What an accelerator makes of this package: parity with the CPU, speed, populations, memory.

    scripts/device_check.sh [--sections parity scoring] [--seconds 450] [--small] [--json FILE]

One process, one command, sections in order, each kept in the JSON file as soon as it is done, so
that a stop loses one of them at most. A section that `--seconds` leaves no time for is named as
skipped. On a CPU, `--small` tries every line in a minute. README.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aejax
from aejax.core import optimizers, scaling, steps
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training.course import course
from aejax.training.members import Member, member_orders
from aejax.training.population import train_populations
from benchmarks import machine, options
from benchmarks.cases import CASES, make_rows, make_weights
from benchmarks.report import environment_lines, keep, short, table
from benchmarks.systems import with_aejax, with_flax
from benchmarks.systems.job import Job

SECTIONS = (
    "limits", "parity", "scoring", "training", "populations", "fastest", "memory", "peers",
)  # fmt: skip
# Most time that a figure's repeats take, and the fewest of them.
SECONDS_A_FIGURE, LEAST_REPEATS = 0.4, 5
NETWORKS = {
    "dense": aejax.Dense(hidden=(16, 4)),
    "dense with batch norm": aejax.Dense(hidden=(16, 4), batch_norm=True),
    "conv, strides": aejax.Conv(channels=(8, 4)),
    "conv, pooling": aejax.Conv(channels=(8, 4), down="pool", batch_norm=True),
    "super-resolution": aejax.SuperResolution(levels=1),
    "variational": aejax.Variational(network=aejax.Dense(hidden=(16,), output="sigmoid"), latent=4),
    "classifier": aejax.Classifier(network=aejax.Dense(hidden=(16, 8)), classes=2),
    "context": aejax.Context(vocabulary=50, window=2, width=16),
}
SCORES = (
    "residual-distance", "latent-distance", "residual-and-latent-distance",
    "error-and-neighbours",
)  # fmt: skip
# float32 on two processors: sums in another order, transcendental functions of another library.
TOLERANCES = {"score": 1e-5, "loss": 1e-5, "gradient": 1e-4}


def seconds_of(call: Callable[[], Any]) -> dict[str, float]:
    """Median, lowest and highest seconds of a call that waits for its result; warmed up."""
    call()
    taken: list[float] = []
    while len(taken) < LEAST_REPEATS or (sum(taken) < SECONDS_A_FIGURE and len(taken) < 50):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return {"median": statistics.median(taken), "lowest": min(taken), "highest": max(taken)}


def rate_of(call: Callable[[], Any], amount: float) -> dict[str, float]:
    """The amount of work a second: median, lowest, highest."""
    taken = seconds_of(call)
    return {
        "median": amount / taken["median"],
        "lowest": amount / taken["highest"],
        "highest": amount / taken["lowest"],
    }


def limits(small: bool) -> dict[str, Any]:
    """Products, copies on the device and copies to it, as JAX reaches them."""
    size, values = (512, 1 << 20) if small else (8192, 1 << 28)
    random = np.random.default_rng(0)
    a = jnp.asarray(random.standard_normal((size, size), np.float32))

    @functools.partial(jax.jit, static_argnames="how")
    def product(a: jax.Array, how: str) -> jax.Array:
        return jnp.matmul(a, a, precision=how)

    def products(x: jax.Array, how: str) -> dict[str, float]:
        return rate_of(lambda: product(x, how).block_until_ready(), 2 * size**3)

    found = {
        "float32 products": products(a, "highest"),
        "float32 products as JAX makes them by default": products(a, "default"),
        "bfloat16 products": products(a.astype(jnp.bfloat16), "default"),
    }
    x = jnp.arange(values, dtype=jnp.float32)
    twice = jax.jit(lambda x: x + 1)
    found["read and written"] = rate_of(lambda: twice(x).block_until_ready(), 8 * values)
    host = np.ones(values // 4, np.float32)
    found["host to device"] = rate_of(lambda: jax.device_put(host).block_until_ready(), host.nbytes)
    found["device to host"] = rate_of(lambda: np.asarray(x[: values // 4] + 1), host.nbytes)
    return found


def _rows(model: Any, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows that a network takes, and their classes where it learns any."""
    random = np.random.default_rng(1)
    if isinstance(model, aejax.Conv | aejax.SuperResolution):
        return random.random((count, 8, 8, 1), np.float32), None
    if isinstance(model, aejax.Context):
        return random.integers(0, 50, (count, 5)).astype(np.float32), None
    causes = random.standard_normal((count, 3))
    rows = causes @ random.standard_normal((3, 12)) + 0.1 * random.standard_normal((count, 12))
    rows = (1 / (1 + np.exp(-rows))).astype(np.float32)
    targets = (causes[:, 0] > 0).astype(np.int32)
    return rows, targets if isinstance(model, aejax.Classifier) else None


def _config(model: Any, score: str) -> aejax.Config:
    kind = "none" if isinstance(model, aejax.Context) else "standard"
    if isinstance(model, aejax.Conv | aejax.SuperResolution | aejax.Variational):
        kind = "none"
    return aejax.Config(
        model=model,
        scale=aejax.Scale(kind=kind),  # type: ignore[arg-type]
        score=score,  # type: ignore[arg-type]
        train=aejax.Train(epochs=2, batch_size=64),
    )


def parity(small: bool) -> list[dict[str, Any]]:
    """Scores, losses and gradients of the built-in parts on the device beside the CPU's."""
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    cases = [(name, model, "error") for name, model in NETWORKS.items()]
    cases += [("dense", NETWORKS["dense"], score) for score in SCORES]
    cases += [
        ("variational", NETWORKS["variational"], score)
        for score in ("negative-elbo", "reconstruction-probability")
    ]
    found = []
    for name, model, score in cases[: 3 if small else None]:
        rows, targets = _rows(model, 512)
        with jax.default_device(cpu):
            detector = aejax.fit(_config(model, score), rows, labels=targets)
        arrays = jax.device_get((detector.variables, detector.scaler))
        scores = [
            np.asarray(_on(at, steps.compiled_score, detector.scoring, *arrays, rows[:256]))
            for at in (cpu, device)
        ]
        loss, gradient = _training_parity(detector, rows, targets, cpu, device)
        differences = {"score": _relative(*scores), "loss": loss, "gradient": gradient}
        found.append({"network": name, "score": score, "differences": differences})
        options.say(
            f"  {name}, {score}: " + ", ".join(f"{k} {v:.1e}" for k, v in differences.items())
        )
    return found


def _on(device: Any, program: Any, first: Any, *arrays: Any) -> Any:
    with jax.default_device(device):
        return jax.device_get(program(first, *jax.device_put(arrays, device)))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference beside the larger of a value and the values' mean size."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(a), np.mean(np.abs(a)))))


def _training_parity(
    detector: Any, rows: np.ndarray, targets: np.ndarray | None, cpu: Any, device: Any
) -> tuple[float, float]:
    """Relative difference of the loss, and of the gradient by its norm, of one step of SGD."""
    sgd = dataclasses.replace(detector.config.train, optimizer="sgd", learning_rate=1.0)
    config = dataclasses.replace(detector.config, train=sgd)
    program = steps.program_of(config, build(config.model, detector.schema))
    values = optimizers.numbers(config, 1)
    state = _on(
        cpu, lambda _, v: steps.compiled_new_state(program, rows.shape[1:], v), None, values
    )
    before = _flat(state.variables["params"])
    batch: Any = rows[:64] if targets is None else (rows[:64], targets[:64])
    mask, scaler = np.ones(64, bool), jax.device_get(detector.scaler)
    found = [
        _on(at, steps.compiled_train_step, program, state, batch, mask, scaler, values)
        for at in (cpu, device)
    ]
    ours, theirs = (before - _flat(after.variables["params"]) for after, _ in found)
    loss = _relative(*(np.asarray(loss)[None] for _, loss in found))
    return loss, float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])


@contextlib.contextmanager
def _products(how: str) -> Iterator[None]:
    """Products of float32 inputs as JAX's setting says, for plain Flax; None leaves it alone."""
    with jax.default_matmul_precision(how):
        yield


def scoring(small: bool) -> list[dict[str, Any]]:
    """Rows a second from device memory, by batch size, and from host memory; peers beside."""
    found = []
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    for name in ("dense", "ecg", "wide", "denoiser"):
        case = CASES[name]
        count = 512 if small else max(case.scoring_rows, 1 << 16)
        rows, weights = make_rows(case, count), make_weights(case)
        shared: dict[str, Any] = {
            "case": case,
            "weights": weights,
            "rows": rows,
            "platform": platform,
        }
        figures: dict[str, Any] = {}
        for precision in aejax_precisions():
            system = with_aejax.Scoring(Job(precision=precision, **shared))
            for size in sorted({system.batch_size, min(4096, count)}):
                system.batch_size = size
                placed, placed_rows = system.place(rows)
                figures[f"aejax {precision}, device, batch {size}"] = rate_of(
                    functools.partial(system.score_placed, placed), placed_rows
                )
                del placed
            figures[f"aejax {precision}, host"] = rate_of(
                functools.partial(system.score, rows), count
            )
        if case.pixels:
            pixels = make_rows(case, count, dtype="uint8")
            system = with_aejax.Scoring(Job(**{**shared, "rows": pixels}))
            figures["aejax float32, host, uint8"] = rate_of(
                functools.partial(system.score, pixels), count
            )
        for precision, how in (("float32", "highest"), ("float32", "default"), ("bfloat16", None)):
            plain = with_flax.Scoring(Job(precision=precision, **shared))
            plain.batch_size = count
            with _products(how) if how else contextlib.nullcontext():
                placed, placed_rows = plain.place(rows)
                label = f"flax {precision}" + (f" ({how} products)" if how else "")
                figures[f"{label}, device, batch {count}"] = rate_of(
                    functools.partial(plain.score_placed, placed), placed_rows
                )
        found.append(
            {
                "case": name,
                "title": case.title,
                "row_flops": case.score_flops,
                "row_bytes": case.row_bytes("float32"),
                "rows": count,
                "rates": figures,
            }
        )
        options.say(
            f"  {name}: " + "; ".join(f"{k} {short(v['median'])}" for k, v in figures.items())
        )
    return found


def aejax_precisions() -> tuple[str, ...]:
    """The types of products that a configuration can name."""
    import typing

    from aejax.config import Precision

    return tuple(name for name in typing.get_args(Precision) if name != "fastest")


def peers(small: bool) -> list[dict[str, Any]]:
    """Rows a second of torch.compile from device memory; each is a compilation of many seconds."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return [{"case": "none", "rates": {}, "reason": str(error)}]
    found = []
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    for name in ("dense", "ecg", "wide", "denoiser"):
        case = CASES[name]
        size = 512 if small else case.scoring_rows
        rows, weights = make_rows(case, size), make_weights(case)
        shared: dict[str, Any] = {
            "case": case,
            "weights": weights,
            "rows": rows,
            "platform": platform,
        }
        figures = _torch_scoring(shared, size)
        found.append({"case": name, "title": case.title, "rows": size, "rates": figures})
        options.say(
            f"  {name}: " + "; ".join(f"{k} {short(v['median'])}" for k, v in figures.items())
        )
    return found


def _torch_scoring(shared: dict[str, Any], size: int) -> dict[str, Any]:
    import torch

    from benchmarks.systems import with_torch

    found = {}
    for precision, how in (("float32", "highest"), ("float32", "high"), ("bfloat16", "high")):
        try:
            torch.set_float32_matmul_precision(how)
            system = with_torch.Scoring(
                Job(precision=precision, options={"compile": True}, **shared)
            )
            system.use({"batch_size": size, "form": precision})
            rows = system.adapt(shared["rows"])
            placed, count = system.place(rows)
            label = f"torch.compile {precision}" + (f" ({how})" if precision == "float32" else "")
            found[f"{label}, device, batch {size}"] = rate_of(
                functools.partial(system.score_placed, placed), count
            )
        except Exception as error:
            options.say(f"  torch.compile {precision}: {type(error).__name__}: {str(error)[:200]}")
    return found


def training(small: bool) -> list[dict[str, Any]]:
    """Rows a second of whole runs: the loop alone, `fit`, plain Flax, torch."""
    found = []
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    for name in ("dense", "ecg", "mlperf", "denoiser"):
        case = CASES[name]
        for batch in (case.batch_sizes[0], *([4096] if name in ("dense", "mlperf") else [])):
            count = 1024 if small else case.train_rows
            job = Job(
                case=case,
                weights=make_weights(case, trained=False),
                rows=make_rows(case, count),
                batch_size=min(batch, count),
                epochs=1 if small else case.epochs,
                platform=platform,
            )
            systems: dict[str, Any] = {
                "aejax loop": with_aejax.Training,
                "aejax fit": with_aejax.Fitting,
                "flax": with_flax.Training,
            }
            with contextlib.suppress(ImportError):
                from benchmarks.systems import with_torch

                systems["torch"] = with_torch.Training
            figures = {}
            for label, system in systems.items():
                built = system(job)
                figures[label] = rate_of(built.fit, count * job.epochs)
                figures[label]["loss"] = built.loss()
            found.append({"case": name, "batch": job.batch_size, "rates": figures})
            options.say(
                f"  {name}, {job.batch_size}: "
                + "; ".join(f"{k} {short(v['median'])}" for k, v in figures.items())
            )
    return found


def populations(small: bool) -> dict[str, Any]:
    """Seconds and memory of 32-8-32 networks on 100 rows each, 20 epochs of batches of 32."""
    epochs, per_member, features = (2 if small else 20), 100, 32
    counts = (1, 8) if small else (1, 64, 1024, 8192, 32_768, 100_000)
    config = aejax.Config(
        model=aejax.Dense(hidden=(8,)),
        scale=aejax.Scale(kind="none"),
        train=aejax.Train(epochs=epochs, batch_size=32, validation_fraction=0.0),
    )
    model = build(config.model, Schema(shape=(features,)))
    random = np.random.default_rng(0)
    points: list[dict[str, Any]] = []
    sizes: list[dict[str, Any]] = []
    x = random.standard_normal((max(counts) * per_member, features), np.float32)

    def members(count: int) -> list[Member]:
        return [
            Member(
                config=dataclasses.replace(
                    config, train=dataclasses.replace(config.train, seed=at)
                ),
                training=np.arange(at * per_member, (at + 1) * per_member),
                validation=np.arange(0),
            )
            for at in range(count)
        ]

    def run(chosen: list[Member], size: int) -> float:
        rows = x[: len(chosen) * per_member]
        started = time.perf_counter()
        train_populations([(chosen, model)], rows, shape=(features,), group_size=size or None)
        return time.perf_counter() - started

    few = members(8 if small else 1024)
    for size in (8,) if small else (8, 256, 1024):
        run(few, size)
        sizes.append({"group": size, "models": len(few), "seconds": run(few, size)})
        options.say(f"  {len(few)} models in groups of {size}: {sizes[-1]['seconds']:.2f} s")
    for count in counts:
        chosen = members(count)
        size = min(count, 8 if small else 4096)
        point: dict[str, Any] = {"models": count, "group": size}
        point["device_seconds"] = _members_on_device(config, model, x, chosen[:size], count)
        expected = points[-1]["seconds"] * count / points[-1]["models"] if points else 0.0
        if expected < 90:
            if count <= 8192:
                run(chosen, 0)
            point["seconds"] = run(chosen, 0)
        else:
            point["seconds"] = float("nan")
        stats = jax.devices()[0].memory_stats() or {}
        point["peak_bytes"] = stats.get("peak_bytes_in_use", 0)
        points.append(point)
        options.say(
            f"  {count} models: {point['seconds']:.2f} s, device {point['device_seconds']:.3f} s"
        )
    return {"groups": sizes, "curve": points, "epochs": epochs, "rows": per_member}


def _members_on_device(
    config: aejax.Config, model: Any, x: np.ndarray, chosen: list[Member], count: int
) -> float:
    """Seconds of the compiled program alone for `count` members, groups of `chosen` in turn."""
    program = steps.program_of(config, model)
    epochs, per_epoch, _ = course(config.train, len(chosen[0].training))
    values = [optimizers.numbers(member.config, epochs * per_epoch) for member in chosen]
    scaler = scaling.fit(config.scale, [], x.dtype)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *values)
    scalers = jax.tree.map(lambda leaf: np.stack([leaf] * len(chosen)), scaler)
    order = np.stack([member_orders(m, range(epochs), per_epoch) for m in chosen])
    fed = jax.device_put(steps.Epochs(order=order, validation=None, scaler=scalers, values=stacked))
    rows = jax.device_put(x[: len(chosen) * len(chosen[0].training)])
    zero = jax.device_put(np.int32(0))

    def once() -> None:
        states = steps.compiled_new_members(program, x.shape[1:], fed.values, None)
        jax.block_until_ready(
            steps.compiled_train_members(
                program, states, None, rows, fed, zero, zero, shared_order=False, ragged=False
            )
        )

    once()
    started = time.perf_counter()
    rounds = -(-count // len(chosen))
    for _ in range(min(rounds, 4)):
        once()
    return (time.perf_counter() - started) / min(rounds, 4) * rounds


def fastest(small: bool) -> list[dict[str, Any]]:
    """What `precision="fastest"` chooses, and why."""
    found = []
    for name in ("dense", "ecg") if small else ("dense", "ecg", "wide", "denoiser"):
        case = CASES[name]
        rows = make_rows(case, 1024 if small else 32_768)
        config = aejax.Config(
            model=case.model,
            scale=aejax.Scale(kind="none"),
            precision="fastest",
            train=aejax.Train(epochs=1, batch_size=512),
        )
        detector = aejax.fit(config, rows)
        found.append({"case": name, "reason": detector.provenance["precision"]})
        options.say(f"  {name}: {found[-1]['reason']}")
    return found


_HALVING = """
import logging, sys
import numpy as np, jax, aejax
logging.basicConfig(level=logging.WARNING)
rows = np.random.default_rng(0).random((int(sys.argv[1]), 784), np.float32)
config = aejax.Config(model=aejax.Dense(hidden=(64,)), scale=aejax.Scale(kind="none"),
                      train=aejax.Train(epochs=1, batch_size=512))
detector = aejax.fit(config, rows[:4096])
small = detector.score(rows)
large = detector.score(rows, batch_size=len(rows))
stats = jax.devices()[0].memory_stats() or {}
print(detector.batch_limit.rows, float(np.max(np.abs(small / large - 1))),
      stats.get("bytes_limit", 0), stats.get("peak_bytes_in_use", 0))
"""


def memory(small: bool) -> dict[str, Any]:
    """A batch that doesn't fit a device of which a twentieth may be used: halved, same scores."""
    rows = 1024 if small else 1 << 20
    environment = {**os.environ, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.05"}
    done = subprocess.run(
        [sys.executable, "-c", _HALVING, str(rows)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    limit, difference, allowed, peak = done.stdout.split()[-4:]
    return {
        "rows": rows, "batch_limit": limit, "difference": float(difference),
        "bytes_allowed": int(allowed), "peak_bytes": int(peak),
        "warnings": [line for line in done.stderr.splitlines() if "warning: batches" in line],
    }  # fmt: skip


def measure(
    chosen: Sequence[str], seconds: float, small: bool, path: Path | None
) -> dict[str, Any]:
    """Run sections in order, as far as the time goes."""
    started = time.monotonic()
    device = jax.devices()[0]
    results: dict[str, Any] = {
        "suite": "device",
        "device": f"{device.device_kind} ({device.platform})",
        "small": small,
        "environment": machine.environment(),
        "sections": {},
    }
    known: dict[str, Callable[[bool], Any]] = {
        "limits": limits, "parity": parity, "scoring": scoring, "training": training,
        "populations": populations, "fastest": fastest, "memory": memory,
        "peers": peers,
    }  # fmt: skip
    for name in chosen:
        gone = time.monotonic() - started
        options.say(f"{name} (after {gone:.0f} s)")
        if gone > seconds:
            results["sections"][name] = {"skipped": f"after {gone:.0f} s"}
        else:
            try:
                results["sections"][name] = known[name](small)
            except Exception as error:
                traceback.print_exc()
                results["sections"][name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        keep(results, path)
    options.say(f"done (after {time.monotonic() - started:.0f} s)")
    return results


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    parts = [f"# On {results['device']}", environment_lines(results)]
    sections = results["sections"]
    reached: dict[str, float] = {}
    for name, found in sections.items():
        parts.append(f"## {name.capitalize()}")
        if isinstance(found, dict) and ("failed" in found or "skipped" in found):
            parts.append(json.dumps(found))
            continue
        if name == "limits":
            reached = {key: value["median"] for key, value in found.items()}
        parts.append(_TABLES[name](found, reached))
    return "\n\n".join(parts)


def _limits_table(found: dict[str, Any], _: dict[str, float]) -> str:
    unit = {True: "FLOP/s", False: "B/s"}
    rows = [[k, short(v["median"]) + unit["products" in k]] for k, v in found.items()]
    return table(["limit", "reached"], rows)


def _parity_table(found: list[dict[str, Any]], _: dict[str, float]) -> str:
    rows = [
        [
            one["network"],
            one["score"],
            *(
                f"{value:.1e}" + ("" if value <= TOLERANCES[kind] else " (too far)")
                for kind, value in one["differences"].items()
            ),
        ]
        for one in found
    ]
    head = ["network", "score", *(f"{k} (allowed {v:g})" for k, v in TOLERANCES.items())]
    return table(head, rows)


def _scoring_table(found: list[dict[str, Any]], reached: dict[str, float]) -> str:
    parts = []
    for one in found:
        rows = []
        for name, rate in one["rates"].items():
            kind = "bfloat16 products" if "bfloat16" in name else "float32 products"
            if "tensorfloat32" in name or "(default" in name or "(high)" in name:
                kind = "float32 products as JAX makes them by default"
            shares = [
                f"{100 * rate['median'] * work / reached[limit]:.0f} %" if limit in reached else "-"
                for work, limit in (
                    (one["row_flops"], kind),
                    (one["row_bytes"], "host to device" if "host" in name else "read and written"),
                )
            ]
            rows.append([name, short(rate["median"]), short(rate["lowest"]), *shares])
        head = ["how", "rows/s", "lowest", "of the products", "of the bandwidth"]
        parts += [f"{one['title']}, {one['rows']} rows", table(head, rows)]
    return "\n\n".join(parts)


def _training_table(found: list[dict[str, Any]], _: dict[str, float]) -> str:
    names = list(found[0]["rates"]) if found else []
    rows = [
        [one["case"], str(one["batch"]), *(short(one["rates"][name]["median"]) for name in names)]
        for one in found
    ]
    return table(["network", "batch", *(f"{name}, rows/s" for name in names)], rows)


def _populations_table(found: dict[str, Any], _: dict[str, float]) -> str:
    groups = [[str(g["group"]), str(g["models"]), f"{g['seconds']:.2f}"] for g in found["groups"]]
    curve = [
        [
            str(p["models"]),
            f"{p['seconds']:.2f}",
            f"{p['device_seconds']:.3f}",
            short(p["models"] / p["seconds"]),
            short(p["models"] / p["device_seconds"]),
            f"{p['peak_bytes'] / 2**20:.0f}",
        ]
        for p in found["curve"]
    ]
    head = ["models", "seconds", "program alone, s", "models/s", "program, models/s", "peak MiB"]
    return "\n\n".join([table(["group", "models", "seconds"], groups), table(head, curve)])


def _peers_table(found: list[dict[str, Any]], _: dict[str, float]) -> str:
    rows = [
        [one["case"], str(one["rows"]), name, short(rate["median"]), short(rate["lowest"])]
        for one in found
        for name, rate in one["rates"].items()
    ]
    return table(["network", "rows", "how", "rows/s", "lowest"], rows)


def _listed(found: Any, _: dict[str, float]) -> str:
    return "```json\n" + json.dumps(found, indent=1) + "\n```"


_TABLES: dict[str, Callable[[Any, dict[str, float]], str]] = {
    "limits": _limits_table, "parity": _parity_table, "scoring": _scoring_table,
    "training": _training_table, "populations": _populations_table, "fastest": _listed,
    "memory": _listed, "peers": _peers_table,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, keep the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--seconds", type=float, default=450, help="after which none is begun (450)"
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try every line")
    parser.add_argument("--json", type=Path, help="keeps the results")
    given = parser.parse_args(arguments)
    # Networks that train for one epoch learn little, and say so.
    logging.getLogger("aejax").setLevel(logging.ERROR)
    print(as_table(measure(given.sections, given.seconds, given.small, given.json)))


if __name__ == "__main__":
    main()
