"""A training script of your own: copy it, change what you like; aejax is used as a library.

    pip install "aejax[grain,tensorboard]"
    python scripts/train.py --rows rows.npy --out runs/own --steps 500

trains the network below on all devices (of all processes, under Slurm or scripts/launch_local.sh),
and leaves a detector in OUT/detector, which needs nothing of this file: `aejax score`, `explain`,
`calibrate`, `report`, `export` and `aejax.load` take it. Killed at any time, the same command goes
on from the last checkpoint and ends with the same bits. `tensorboard --logdir OUT` shows curves.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import grain
import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp
from tensorboardX import SummaryWriter

import aejax
from aejax.training import processes

LOG_EVERY = 50
# One of these is more than 1 where this process is one of several.
COUNTS = ("AEJAX_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


class Gated(nn.Module):
    """Half of an autoencoder: a residual layer whose values are let through by gates."""

    width: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width)(x)
        x = x + nn.Dense(self.width)(nn.sigmoid(nn.Dense(self.width)(x)) * nn.tanh(x))
        return nn.Dense(self.out)(x)


class Autoencoder(nn.Module):
    """Any module that maps rows [B, features] to rows will do; `encode` is for latent values."""

    features: int
    width: int = 64
    latent: int = 4

    def setup(self) -> None:
        self.encoder = Gated(self.width, self.latent)
        self.decoder = Gated(self.width, self.features)

    def encode(self, x: jax.Array) -> jax.Array:
        return self.encoder(x)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.decoder(self.encoder(x))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; all see it")
    parser.add_argument("--rows", type=Path, help=".npy of normal rows [n, features]; else made up")
    parser.add_argument("--steps", type=int, default=500, help="batches to train on (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="over all devices, %(default)s")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at most (%(default)s)")
    parser.add_argument("--width", type=int, default=64, help="of the network (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument("--save-every", type=int, default=100, help="steps (%(default)s)")
    options = parser.parse_args()
    for name in ("steps", "batch_size", "width", "save_every"):
        if (value := getattr(options, name)) < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}; allowed: at least 1")
    return options


def read(path: Path | None) -> np.ndarray:
    """Rows [n, features], mapped: only what a batch takes is read."""
    if path is None:
        random = np.random.default_rng(0)
        causes = random.normal(size=(20_000, 3)) @ random.normal(size=(3, 16))
        return (causes + 0.1 * random.normal(size=causes.shape)).astype(np.float32)
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise SystemExit(f"--rows is {path}; allowed: an .npy file ({error})") from None
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or len(rows) < 20:
        raise SystemExit(f"{path} is {rows.dtype}{list(rows.shape)}; allowed: numbers, 20 rows up")
    return rows


def main() -> None:
    options = parsed()
    if any(int(os.environ.get(name, 1)) > 1 for name in COUNTS):
        processes.join()  # jax.distributed.initialize, before anything else of JAX.
    first, share = jax.process_index() == 0, options.batch_size // jax.process_count()
    if options.batch_size % (devices := jax.device_count()):
        raise SystemExit(f"--batch-size is {options.batch_size}; allowed: a multiple of {devices}")

    # Input. Every tenth row is held out; the others are shuffled anew each epoch. Batch i depends
    # on the seed and i alone, so going on means beginning there. Each process reads its share.
    rows = read(options.rows)
    training = len(rows) - len(rows) // 10

    def pick(at: np.ndarray) -> np.ndarray:
        return np.asarray(rows[at + at // 9], np.float32)

    order = grain.MapDataset.range(training).seed(options.seed).shuffle().repeat()
    batches = order[jax.process_index() :: jax.process_count()].batch(share).map(pick)
    sample = pick(np.linspace(0, training - 1, min(training, 100_000)).astype(int))
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    factor = 1 / np.where(deviation > 0, deviation, 1)

    # Program. Each batch is cut over all devices; parameters and the rest lie on each of them.
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    cut, whole = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
    network = Autoencoder(rows.shape[1], options.width)
    warm_up = min(100, options.steps // 10)
    rate = optax.warmup_cosine_decay_schedule(0, options.learning_rate, warm_up, options.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adamw(rate))
    of_scaled = aejax.train_step(network, "squared", optimizer)

    def begin() -> aejax.TrainingState:
        key = jax.random.key(options.seed)
        return aejax.train_state(network, optimizer, key, rows.shape[1:])

    def step(state: aejax.TrainingState, x: jax.Array) -> Any:
        return of_scaled(state, (x - mean) * factor)

    state = jax.jit(begin, out_shardings=whole)()
    step = jax.jit(step, in_shardings=(whole, cut), out_shardings=whole, donate_argnums=0)

    # Loop. A folder is gone on in by the same run only: by what changes its result.
    run = {k: v for k, v in vars(options).items() if k not in ("out", "rows", "save_every")}
    run |= {"rows": list(rows.shape), "mean": float(mean.mean())}
    keep = ocp.training.preservation_policies.LatestN(2)
    when = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    folder, begun = (options.out / "checkpoints").absolute(), 0
    with ocp.training.Checkpointer(
        folder, save_decision_policy=when, preservation_policy=keep
    ) as checkpoints:
        if latest := checkpoints.latest:
            if (other := checkpoints.metadata(latest.step).custom_metadata) != run:
                raise SystemExit(f"{options.out} holds the run {other}; allowed: the same settings")
            begun = latest.step
            state = state._replace(**checkpoints.load(begun, saved(state)))
        board = SummaryWriter(str(options.out), purge_step=begun + 1, write_to_disk=first)
        ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
        for at, batch in enumerate(
            batches[begun : options.steps].to_iter_dataset(ahead), begun + 1
        ):
            state, metrics = step(state, jax.make_array_from_process_local_data(cut, batch))
            if at % LOG_EVERY == 0 or at == options.steps:
                for name, value in (metrics := jax.device_get(metrics)).items():
                    board.add_scalar(name, value, at)
                if not np.isfinite(loss := metrics["loss"]):
                    raise SystemExit(
                        f"loss is {loss}; allowed: finite rows, a --learning-rate less"
                    )
            if at % options.save_every == 0 or at == options.steps:
                checkpoints.save(at, saved(state), custom_metadata=run)
        board.close()

    # Detector. What is known of normal rows, and the threshold, come from rows held out.
    if first:
        detector = aejax.Detector.of(
            network,
            jax.device_get(state.variables),
            x_normal=rows[9::10][:100_000],
            scaler=aejax.Scaler(mean, factor, None),
            config=aejax.Config(rule=aejax.Quantile(q=0.99)),
        )
        detector.save(options.out / "detector")
        print(f"{options.out / 'detector'}: threshold {detector.threshold.value:.6g}")


def saved(state: aejax.TrainingState) -> dict[str, Any]:
    """What a checkpoint holds: all but the key, which the seed gives and no step changes."""
    return {name: value for name, value in state._asdict().items() if name != "key"}


if __name__ == "__main__":
    main()
