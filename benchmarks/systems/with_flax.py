"""Plain Flax Linen, the naive form: the layers as documented, one jit over a batch.

Also the limits of the machine as JAX reaches them.
"""

from __future__ import annotations

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.cases import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Layer
from benchmarks.systems.job import ByBatchSize, Job, slices

_FUNCTIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "linear": lambda x: x}


class Network(nn.Module):
    """The case's layers, one after another."""

    layers: tuple[Layer, ...]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for index, layer in enumerate(self.layers):
            name, width = f"layer_{index}", layer.shape_out[-1]
            size, steps = (layer.kernel,) * 2, (layer.stride,) * 2
            if layer.kind in ("dense", "posterior"):
                x = nn.Dense(width, dtype=self.dtype, name=name)(x)
            elif layer.kind == "conv":
                x = nn.Conv(width, size, steps, dtype=self.dtype, name=name)(x)
            elif layer.kind == "conv_transpose":
                x = nn.ConvTranspose(width, size, steps, dtype=self.dtype, name=name)(x)
            elif layer.kind == "batch_norm":
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=BATCH_NORM_MOMENTUM,
                    epsilon=BATCH_NORM_EPSILON,
                    dtype=self.dtype,
                    name=name,
                )(x)
            elif layer.kind == "max_pool":
                x = nn.max_pool(x, (2, 2), (2, 2))
            elif layer.kind == "upsample":
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            else:
                x = _FUNCTIONS[layer.function](x)
        return x


class Variational(nn.Module):
    """Logits of a row, and its posterior's mean and log variance."""

    layers: tuple[Layer, ...]
    posterior: int

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array | float) -> tuple[jax.Array, ...]:
        hidden = Network(self.layers[: self.posterior], name="encoder")(x)
        width = self.layers[self.posterior].shape_out[-1]
        mean = nn.Dense(width, name="mean")(hidden)
        log_variance = nn.Dense(width, name="log_variance")(hidden)
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        # The last layer is the sigmoid.
        decoder = Network(self.layers[self.posterior + 1 : -1], name="decoder")
        return decoder(latent), mean, log_variance


def negative_elbo(found: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    """The negative bound of every row [n], in nats, from what `Variational` gives."""
    logits, mean, log_variance = found
    nats = optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=1)
    divergence = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
    return nats + 0.5 * divergence.sum(axis=1)


def _variational_variables(job: Job, place: int) -> dict[str, Any]:
    weights = job.weights
    parts = {"encoder": slice(0, place), "decoder": slice(place + 1, None)}
    networks = {
        part: {f"layer_{i}": dict(arrays) for i, arrays in enumerate(weights[where]) if arrays}
        for part, where in parts.items()
    }
    posterior = weights[place]
    mean = {name: posterior[name] for name in ("kernel", "bias")}
    log_variance = {name: posterior[f"log_variance_{name}"] for name in mean}
    return {"params": {**networks, "mean": mean, "log_variance": log_variance}}


def _variables(job: Job) -> dict[str, Any]:
    params: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    for index, arrays in enumerate(job.weights):
        name = f"layer_{index}"
        if "mean" in arrays:
            params[name] = {key: arrays[key] for key in ("scale", "bias")}
            statistics[name] = {key: arrays[key] for key in ("mean", "var")}
        elif arrays:
            params[name] = {key: arrays[key] for key in ("kernel", "bias")}
    return {"params": params, **({"batch_stats": statistics} if statistics else {})}


def _row_errors(x: jax.Array, y: Any) -> jax.Array:
    return jnp.mean(jnp.square(x - y), axis=tuple(range(1, x.ndim)))


class Scoring(ByBatchSize):
    """One jitted function of a batch, called in a loop."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        dtype = jnp.bfloat16 if job.precision == "bfloat16" else None
        model = Network(job.case.layers, dtype)
        self.variables = jax.device_put(_variables(job))

        @jax.jit
        def function(variables: Any, x: jax.Array) -> jax.Array:
            y: Any = model.apply(variables, x)
            return _row_errors(x, y.astype(jnp.float32))

        self.function = function
        self.facts = {"same_weights": True, "jax": jax.__version__, "flax": flax.__version__}

    def score(self, rows: np.ndarray) -> np.ndarray:
        parts = (rows[s] for s in slices(len(rows), self.batch_size))
        found = [self.function(self.variables, part) for part in parts]
        return np.concatenate([np.asarray(part) for part in found])

    def place(self, rows: np.ndarray) -> Any:
        parts = [jax.device_put(rows[s]) for s in slices(len(rows), self.batch_size)]
        return jax.block_until_ready(parts), len(rows)

    def score_placed(self, placed: Any) -> None:
        jax.block_until_ready([self.function(self.variables, part) for part in placed])


class Training:
    """A Python loop over jitted steps."""

    def __init__(self, job: Job) -> None:
        self.job, place = job, job.case.posterior
        self.model: Network | Variational
        if place is None:
            self.model, self.fresh = Network(job.case.layers), _variables(job)
        else:
            self.model = Variational(job.case.layers, place)
            self.fresh = _variational_variables(job, place)
        self.optimizer = optax.adam(1e-3, eps=1e-7)
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.errors = jax.jit(lambda variables, x: _row_errors(x, self._output(variables, x)))
        self.facts = {"jax": jax.__version__, "flax": flax.__version__}

    def _output(self, variables: Any, x: jax.Array) -> Any:
        if isinstance(self.model, Variational):
            return nn.sigmoid(self.model.apply(variables, x, 0.0)[0])
        return self.model.apply(variables, x)

    def _step(self, variables: Any, state: Any, key: jax.Array, x: jax.Array) -> Any:
        noise = self.job.case.noise
        seen = x
        if noise:
            seen = jnp.clip(x + noise * jax.random.normal(key, x.shape), 0, 1)
        others = {name: value for name, value in variables.items() if name != "params"}

        def loss(params: Any) -> tuple[jax.Array, Any]:
            if isinstance(self.model, Variational):
                (width,) = self.model.layers[self.model.posterior].shape_out
                sample = jax.random.normal(key, (len(x), width))
                found: Any = self.model.apply({"params": params}, x, sample)
                return jnp.mean(negative_elbo(found, x)), {}
            y, changed = self.model.apply(
                {"params": params, **others}, seen, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(jnp.square(x - y)), changed

        gradient, changed = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = self.optimizer.update(gradient, state)
        params = optax.apply_updates(variables["params"], updates)
        return {**variables, **changed, "params": params}, state

    def fit(self) -> None:
        job = self.job
        variables = jax.tree.map(jnp.array, self.fresh)
        state = self.optimizer.init(variables["params"])
        random = np.random.default_rng(0)
        key = jax.random.key(0)
        for epoch in range(job.epochs):
            order = random.permutation(len(job.rows))
            for number, picked in enumerate(slices(len(job.rows), job.batch_size)):
                once = jax.random.fold_in(key, epoch * len(job.rows) + number)
                variables, state = self.step(variables, state, once, job.rows[order[picked]])
        self.variables = jax.block_until_ready(variables)

    def loss(self) -> float:
        parts = (self.job.rows[s] for s in slices(len(self.job.rows), 4096))
        found = [np.asarray(self.errors(self.variables, part)) for part in parts]
        return float(np.mean(np.concatenate(found), dtype=np.float64))


class Limits:
    """What the machine can do at most: matrix products, and reading memory."""

    def __init__(self, size: int, read_bytes: int) -> None:
        random = np.random.default_rng(0)
        a = jax.device_put(random.standard_normal((size, size), np.float32))
        self.operations = 2 * size**3
        self.inputs = {"float32": a, "bfloat16": a.astype(jnp.bfloat16)}
        self.product = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32))
        self.values = jax.device_put(np.ones((read_bytes // 4096, 1024), np.float32))
        # Two forms: which of them a backend spreads over all its cores differs.
        self.reads = [jax.jit(lambda x: x.sum(axis=1)), jax.jit(lambda x: x.sum())]
        self.facts = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}

    def tasks(self) -> dict[str, tuple[float, Any]]:
        """Amount of work (operations or bytes) and how to do it, by the limit's name."""
        work: dict[str, tuple[float, Any]] = {
            f"product_{name}": (
                self.operations,
                lambda a=a: self.product(a).block_until_ready(),
            )
            for name, a in self.inputs.items()
        }
        for index, read in enumerate(self.reads):
            work[f"read_{index}"] = (
                self.values.nbytes,
                lambda read=read: read(self.values).block_until_ready(),
            )
        return work
