"""Many models at once, against the same models one after the other, and against PyOD.

    python -m benchmarks.population [--members 64] [--curve 1 4 16 64 256 1024]
        [--groups 1000] [--json FILE]

The ECG model (140-32-16-8-16-32-140, 20 epochs of batch 512, 2,359 rows), each member with
its own seed; and with `--groups`, a detector for each of many groups of rows (`groups.py`).
README.md says how to read the table.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from aejax.config import Config, Dense, Scale, Train
from aejax.core import scaling
from aejax.data.schema import Schema
from aejax.models.build import build
from aejax.training.loop import train
from aejax.training.population import Member, train_populations
from benchmarks import groups, machine, options, report
from benchmarks.cases import CASES, make_rows
from benchmarks.figures import spread, times_faster

ROWS = 2359
SINGLES = 8
# A larger population that makes a model cheaper by less than this share doesn't pay.
LEAST_GAIN = 0.05


def config(seed: int, epochs: int) -> Config:
    """The published ECG settings."""
    return Config(
        model=Dense(hidden=(32, 16, 8), output="sigmoid"),
        scale=Scale(kind="min-max-all"),
        train=Train(epochs=epochs, batch_size=512, loss="absolute", seed=seed),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One way of training some models.

    Attributes:
        name: of its row.
        models: that one call trains.
        run: trains them and returns the median of their last losses.
    """

    name: str
    models: int
    run: Callable[[], float]


def jobs(x: np.ndarray, members: int, epochs: int) -> list[Job]:
    """One after the other, and as populations of both orders."""
    base = config(0, epochs)
    model = build(base.model, Schema(shape=x.shape[1:]))
    scaler = scaling.fit(base.scale, [x], x.dtype)
    everything, nothing = np.arange(len(x)), np.arange(0)

    def singles() -> float:
        losses = []
        for seed in range(SINGLES):
            trained = train(config(seed, epochs), model, scaler, x, shape=x.shape[1:])
            jax.block_until_ready(trained.variables)
            losses.append(trained.history[-1]["loss"])
        return float(np.median(losses))

    def population(count: int, shared: bool) -> Callable[[], float]:
        chosen = [
            Member(config=config(seed, epochs), training=everything, validation=nothing)
            for seed in range(count)
        ]

        def run() -> float:
            (trained,) = train_populations(
                [(chosen, model)], x, shape=x.shape[1:], shared_order=shared
            )
            return float(np.median([member.history[-1]["loss"] for member in trained]))

        return run

    return [
        Job(name="aejax, one after the other", models=SINGLES, run=singles),
        Job(name="population, shared order", models=members, run=population(members, True)),
        Job(name="population, own orders", models=members, run=population(members, False)),
    ]


def pyod_job(x: np.ndarray, epochs: int) -> Job | str:
    """PyOD's autoencoder with the same sizes and epochs, or why it is missing."""
    try:
        from pyod.models.auto_encoder import AutoEncoder
    except ImportError as error:
        return str(error)

    def run() -> float:
        AutoEncoder(
            hidden_neuron_list=[32, 16, 8], epoch_num=epochs, batch_size=512, verbose=0
        ).fit(x)
        return float("nan")

    return Job(name="PyOD fit, one after the other", models=1, run=run)


def measure(found: Sequence[Job], repeats: int) -> list[dict[str, Any]]:
    """Seconds a model of every job, interleaved; the first turn compiles and isn't counted."""
    seconds: dict[str, list[float]] = {job.name: [] for job in found}
    first: dict[str, float] = {}
    losses: dict[str, float] = {}
    for turn in range(repeats + 1):
        for job in found:
            options.say(f"turn {turn} of {repeats}: {job.name}")
            started = time.perf_counter()
            losses[job.name] = job.run()
            taken = (time.perf_counter() - started) / job.models
            if turn:
                seconds[job.name].append(taken)
            else:
                first[job.name] = taken * job.models
    reference = seconds[found[0].name]
    return [
        {
            "name": job.name,
            "models": job.models,
            "seconds_a_model": spread(seconds[job.name]),
            "times_faster_than_single": times_faster(seconds[job.name], reference),
            "first_call_seconds": first[job.name],
            "median_loss": losses[job.name],
        }
        for job in found
    ]


def curve(x: np.ndarray, counts: Sequence[int], epochs: int) -> list[dict[str, Any]]:
    """Seconds and memory a model, for populations of growing size with their own orders."""
    points = []
    for count in counts:
        job = jobs(x, count, epochs)[2]
        job.run()
        started = time.perf_counter()
        job.run()
        seconds = (time.perf_counter() - started) / count
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        points.append({"models": count, "seconds_a_model": seconds, "peak_mebibytes": peak})
        options.say(f"{count} models: {1000 * seconds:.1f} ms a model")
    return points


def stops_paying(points: Sequence[dict[str, Any]]) -> int | None:
    """The size of population after which a model gets less than a twentieth cheaper; or None."""
    for smaller, larger in pairwise(points):
        if larger["seconds_a_model"] > (1 - LEAST_GAIN) * smaller["seconds_a_model"]:
            return int(smaller["models"])
    return None


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    rows = []
    for one in results["jobs"]:
        ratio, found = one["times_faster_than_single"], one["seconds_a_model"]
        rows.append(
            [
                one["name"],
                str(one["models"]),
                f"{1000 * found['median']:.1f}",
                f"{1000 * found['lowest']:.1f} to {1000 * found['highest']:.1f}",
                f"{1 / ratio['median']:.3f}x" if ratio else "-",
                f"{one['first_call_seconds']:.1f}",
                f"{one['median_loss']:.4f}",
            ]
        )
    head = ["how", "models", "ms a model", "spread", "of single", "first call, s", "loss"]
    grown = [
        [
            str(point["models"]),
            f"{1000 * point['seconds_a_model']:.1f}",
            f"{point['peak_mebibytes']:.0f}",
        ]
        for point in results["curve"]
    ]
    parts = [
        "# Many models at once",
        report.environment_lines(results),
        report.table(head, rows),
        "\n".join(results["missing"]),
        report.table(["models", "ms a model", "peak MiB"], grown) if grown else "",
        _paying(results["stops_paying"], results["curve"]),
    ]
    if results["groups"]:
        count = results["groups_asked"]
        parts += [
            f"## {count} groups of {results['group_rows']} rows, a detector each",
            groups.as_table(results["groups"], count),
        ]
    return "\n\n".join(filter(None, parts))


def _paying(models: int | None, points: Sequence[dict[str, Any]]) -> str:
    if len(points) < 2:
        return ""
    if models is None:
        return "Every larger population made a model cheaper by a twentieth or more."
    return f"Beyond {models} models, a larger population makes a model less than 5 % cheaper."


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, keep the results."""
    parser = options.parser("benchmarks.population", "Many models in one program.")
    parser.add_argument("--members", type=options.count, default=64, help="models at once (64)")
    parser.add_argument("--epochs", type=options.count, default=20, help="of every model (20)")
    parser.add_argument("--rows", type=options.count, default=ROWS, help="training rows (2359)")
    parser.add_argument(
        "--curve", type=options.count, nargs="*", default=[1, 4, 16, 64, 256, 1024], help="sizes"
    )
    parser.add_argument("--groups", type=int, default=0, help="groups with a detector each (none)")
    parser.add_argument("--group-rows", type=options.count, default=500, help="of a group (500)")
    parser.add_argument(
        "--looped", type=options.count, default=20, help="groups that loops are measured on (20)"
    )
    parser.add_argument(
        "--peers", nargs="+", choices=["none", "pyod", "sklearn"], default=["pyod", "sklearn"]
    )
    given = parser.parse_args(arguments)
    x = make_rows(CASES["ecg"], given.rows)
    found, missing = jobs(x, given.members, given.epochs), []
    if "pyod" in given.peers:
        peer = pyod_job(x, given.epochs)
        if isinstance(peer, Job):
            found.append(peer)
        else:
            missing.append(f"- PyOD: missing ({peer})")
    measured, grown = measure(found, given.repeats), curve(x, given.curve, given.epochs)
    results: dict[str, Any] = {
        "suite": "population",
        "platform": jax.default_backend(),
        "repeats": given.repeats,
        "environment": machine.environment(),
        "jobs": measured,
        "missing": missing,
        "curve": grown,
        "stops_paying": stops_paying(grown),
        "groups_asked": given.groups,
        "group_rows": given.group_rows,
        "groups": groups.measure(
            given.groups, given.group_rows, given.epochs, given.looped, given.repeats, given.peers
        )
        if given.groups
        else [],
    }
    report.keep(results, given.json)
    print(as_table(results))
    if given.plot:
        rates = {
            one["name"]: {k: 1 / v for k, v in one["seconds_a_model"].items() if v}
            for one in results["jobs"]
        }
        report.plot_spreads({"models a second": rates}, given.plot)


if __name__ == "__main__":
    main()
