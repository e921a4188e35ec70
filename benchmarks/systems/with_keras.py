"""Keras 3 on TensorFlow: `predict` and `fit`, their XLA forms, and a graph of model and error."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.cases import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM
from benchmarks.systems.job import ByBatchSize, Choice, Job, NotApplicable, slices
from benchmarks.systems.with_numpy import row_errors


def _check(job: Job) -> None:
    if job.platform != "cpu" and not tf.config.list_physical_devices(job.platform.upper()):
        raise NotApplicable(f"this build of TensorFlow finds no {job.platform.upper()}")


def network(job: Job) -> keras.Model:
    """The case's layers with the given weights."""
    modules: list[Any] = []
    for layer in job.case.layers:
        width = layer.shape_out[-1]
        if layer.kind in ("dense", "posterior"):
            modules.append(keras.layers.Dense(width))
        elif layer.kind == "conv":
            modules.append(keras.layers.Conv2D(width, layer.kernel, layer.stride, "same"))
        elif layer.kind == "conv_transpose":
            modules.append(keras.layers.Conv2DTranspose(width, layer.kernel, layer.stride, "same"))
        elif layer.kind == "batch_norm":
            modules.append(
                keras.layers.BatchNormalization(
                    momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON
                )
            )
        elif layer.kind == "max_pool":
            modules.append(keras.layers.MaxPooling2D(2))
        elif layer.kind == "upsample":
            modules.append(keras.layers.UpSampling2D(2))
        else:
            modules.append(keras.layers.Activation(layer.function))
    model = keras.Sequential([keras.Input(job.case.shape), *modules])
    for layer, module, arrays in zip(job.case.layers, modules, job.weights, strict=True):
        if layer.kind == "batch_norm":
            module.set_weights([arrays[name] for name in ("scale", "bias", "mean", "var")])
        elif arrays:
            kernel = arrays["kernel"]
            if layer.kind == "conv_transpose":
                kernel = kernel[::-1, ::-1].swapaxes(2, 3)
            module.set_weights([kernel, arrays["bias"]])
    return model


class Variational(keras.Model):
    """A variational autoencoder as in Keras' own example; called, it decodes the mean."""

    def __init__(self, job: Job, place: int) -> None:
        super().__init__()
        layers = network(job).layers
        # The last layer is the sigmoid, which the loss of logits has in it.
        self.encoder = keras.Sequential([keras.Input(job.case.shape), *layers[:place]])
        self.decoder = keras.Sequential(
            [keras.Input((layers[place].units,)), *layers[place + 1 : -1]]
        )
        self.mean = layers[place]
        self.log_variance = keras.layers.Dense(layers[place].units)
        self.log_variance.build(self.encoder.output_shape)
        names = ("log_variance_kernel", "log_variance_bias")
        self.log_variance.set_weights([job.weights[place][name] for name in names])
        self.seeds = keras.random.SeedGenerator(0)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = True

    def call(self, x: Any) -> Any:
        return keras.ops.sigmoid(self.decoder(self.mean(self.encoder(x))))

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def negative_elbo(self, x: Any, noise: Any) -> Any:
        """Mean over rows, in nats."""
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        logits = self.decoder(mean + tf.exp(0.5 * log_variance) * noise)
        nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
        divergence = 0.5 * (tf.square(mean) + tf.exp(log_variance) - 1 - log_variance)
        return tf.reduce_mean(tf.reduce_sum(nats, axis=1) + tf.reduce_sum(divergence, axis=1))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        noise = keras.random.normal((tf.shape(x)[0], self.mean.units), seed=self.seeds)
        with tf.GradientTape() as tape:
            loss = self.negative_elbo(x, noise)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def _facts() -> dict[str, Any]:
    return {"same_weights": True, "keras": keras.__version__, "tensorflow": tf.__version__}


class Scoring(ByBatchSize):
    """`predict`, and the error in NumPy."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        _check(job)
        self.model = network(job)
        self.model.compile(jit_compile=bool(job.options.get("jit_compile")))
        self.facts = _facts()

    def score(self, rows: np.ndarray) -> np.ndarray:
        return row_errors(rows, self.model.predict(rows, batch_size=self.batch_size, verbose=0))


class FunctionScoring:
    """A `tf.function` of model and error, with and without XLA."""

    def __init__(self, job: Job) -> None:
        _check(job)
        self.model = network(job)
        self.axes = list(range(1, len(job.rows.shape)))
        self.facts = _facts()
        self.choices: dict[str, list[Any]] = {
            "batch_size": job.batch_sizes,
            "form": ["xla", "graph"],
        }

    def adapt(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def use(self, choice: Choice) -> None:
        self.batch_size = choice["batch_size"]

        @tf.function(jit_compile=choice["form"] == "xla")
        def errors(x: Any) -> Any:
            return tf.reduce_mean(tf.square(x - self.model(x, training=False)), axis=self.axes)

        self.errors = errors

    def score(self, rows: np.ndarray) -> np.ndarray:
        parts = (tf.convert_to_tensor(rows[s]) for s in slices(len(rows), self.batch_size))
        return np.concatenate([self.errors(part).numpy() for part in parts])


class Training:
    """`fit`; a denoiser is given its noisy rows ready made, as in the tutorial."""

    def __init__(self, job: Job) -> None:
        _check(job)
        self.job = job
        self.seen = job.rows
        if job.case.noise:
            random = np.random.default_rng(0)
            noise = job.case.noise * random.standard_normal(job.rows.shape, np.float32)
            self.seen = np.clip(job.rows + noise, 0, 1)
        place = job.case.posterior
        self.model = network(job) if place is None else Variational(job, place)
        self.fresh = self.model.get_weights()
        jit = True if job.options.get("jit_compile") else "auto"
        self.optimizer = keras.optimizers.Adam(1e-3)
        loss = "mse" if place is None else None
        self.model.compile(optimizer=self.optimizer, loss=loss, jit_compile=jit)
        self.facts = _facts()

    def fit(self) -> None:
        self.model.set_weights(self.fresh)
        for variable in self.optimizer.variables:
            if variable is not self.optimizer.learning_rate:
                variable.assign(np.zeros(variable.shape, variable.dtype))
        self.model.fit(
            self.seen,
            self.job.rows,
            batch_size=self.job.batch_size,
            epochs=self.job.epochs,
            verbose=0,
        )

    def loss(self) -> float:
        rows = self.job.rows
        found = row_errors(rows, self.model.predict(rows, batch_size=4096, verbose=0))
        return float(np.mean(found, dtype=np.float64))
