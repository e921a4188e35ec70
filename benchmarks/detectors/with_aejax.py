"""Dense autoencoders of aejax, their residuals, and two controls."""

from __future__ import annotations

import dataclasses
import functools
import time

import numpy as np

from aejax import fit
from aejax.config import Config, Dense, Train, Variational
from aejax.core import learn, scaling
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.normal import learn_normal
from aejax.detection.population import Population, fit_population
from aejax.models.build import build
from benchmarks.detectors.protocol import Scored, Split

STEPS = 1500
QUICK_STEPS = 100
BATCH_SIZE = 128
NEIGHBOURS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A fixed configuration.

    Attributes:
        hidden: widths to the latent layer.
        decoder: widths after it; None mirrors.
        noise: standard deviation of the input's noise in training, in scaled units.
        members: networks that differ in seed; their scores are averaged.
        latent: dimensions of a variational autoencoder's latent space after the hidden layers,
            scored by reconstruction probability (An and Cho, 2015); None has none.
        whitened: score by the residual's Mahalanobis distance instead of its mean square.
        trained: False leaves the parameters as initialised.
    """

    hidden: tuple[int, ...] = (128, 64)
    decoder: tuple[int, ...] | None = None
    noise: float = 0.1
    members: int = 4
    latent: int | None = None
    whitened: bool = False
    trained: bool = True


def config(form: Form, split: Split, seed: int, quick: bool) -> Config:
    """Settings of one member: AdamW, a cosine schedule from 0.002, 1,500 steps of batch 128."""
    steps = QUICK_STEPS if quick else STEPS
    train = Train(
        epochs=-(-steps // -(-len(split.train) // BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        noise=form.noise,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        weight_decay=1e-4,
        validation_fraction=0.0,
        seed=seed,
    )
    network = Dense(hidden=form.hidden, decoder=form.decoder)
    if form.latent is None:
        return Config(model=network, scale=split.scale, train=train)
    return Config(
        model=Variational(network=network, latent=form.latent, likelihood="normal"),
        score="reconstruction-probability",
        scale=split.scale,
        train=train,
    )


def configs(form: Form, split: Split, seed: int, quick: bool) -> tuple[Config, ...]:
    """Settings of all members: their seeds are 1,000 times the seed and those that follow."""
    return tuple(config(form, split, 1000 * seed + member, quick) for member in range(form.members))


@functools.lru_cache(maxsize=3)
def _population(configs: tuple[Config, ...], split: Split) -> tuple[Population, float]:
    """Trained members, and the seconds that it took: several scores are made of the same."""
    started = time.perf_counter()
    population = fit_population(configs, split.train)
    return population, time.perf_counter() - started


def detect(form: Form, split: Split, seed: int, quick: bool = False) -> Scored:
    """Score the test rows.

    Args:
        form: of the detector.
        split: its rows.
        seed: of the members' seeds.
        quick: train for 100 steps.
    """
    members = configs(form, split, seed, quick)
    if not form.trained:
        return Scored(np.mean([_fresh(one, split).score(split.test) for one in members], axis=0))
    if form.members == 1:
        return Scored(fit(members[0], split.train).score(split.test))
    known = _population.cache_info().hits
    population, seconds = _population(members, split)
    before = seconds if _population.cache_info().hits > known else 0.0
    if not form.whitened:
        return Scored(population.ensemble(split.train).score(split.test), before)
    kept = [detector for detector in population.detectors if detector is not None]
    return Scored(np.mean([whitened_distances(one, split) for one in kept], axis=0), before)


def _fresh(config: Config, split: Split) -> Detector:
    """A detector with the parameters that its training would start from."""
    schema = Schema(shape=split.train.shape[1:])
    model = build(config.model, schema)
    return Detector(
        config=config,
        schema=schema,
        scaler=scaling.fit(config.scale, [split.train], split.train.dtype),
        variables=learn.new_variables(model, schema.shape, config.train.seed),
    )


def whitened_distances(detector: Detector, split: Split) -> np.ndarray:
    """Every test row's `residual-distance`, learnt from the training rows' residuals."""
    settings = dataclasses.replace(detector.config, score="residual-distance")
    return learn_normal(dataclasses.replace(detector, config=settings), split.train).score(
        split.test
    )


def neighbours(split: Split, seed: int, quick: bool = False) -> Scored:
    """The default's score times the mean squared distance to the nearest training rows.

    A product (a mean of logarithms) needs no common scale of the two. A row of the training
    rows is not its own neighbour.
    """
    from sklearn.neighbors import NearestNeighbors

    errors, before = detect(Form(), split, seed, quick)
    train, test = split.scaled
    count = min(NEIGHBOURS, len(train) - 1)
    search = NearestNeighbors(n_neighbors=count).fit(train)
    if split.protocol == "all":
        distances = np.concatenate(
            [search.kneighbors()[0], *_distances_of_rest(search, test[len(train) :])]
        )
    else:
        distances = search.kneighbors(test)[0]
    tiny = np.finfo(np.float32).tiny
    squared = np.mean(np.square(distances), axis=1) / train.shape[1]
    return Scored(np.log(errors + tiny) + np.log(squared + tiny), before)


def _distances_of_rest(search: object, rest: np.ndarray) -> list[np.ndarray]:
    return [search.kneighbors(rest)[0]] if len(rest) else []  # type: ignore[attr-defined]


def norm(split: Split, seed: int, quick: bool = False) -> Scored:
    """The scaled row's mean square: what a network that always answers 0 would score."""
    return Scored(np.mean(np.square(split.scaled[1]), axis=1))


dense = functools.partial(detect, Form())
single = functools.partial(detect, Form(members=1))
eight = functools.partial(detect, Form(members=8))
narrow = functools.partial(detect, Form(hidden=(64, 32), noise=0.0))
wide = functools.partial(detect, Form(hidden=(256, 256), decoder=(), noise=0.3))
whitened = functools.partial(detect, Form(whitened=True))
wide_whitened = functools.partial(
    detect, Form(hidden=(256, 256), decoder=(), noise=0.3, whitened=True)
)
variational = functools.partial(detect, Form(noise=0.0, latent=16))
untrained = functools.partial(detect, Form(trained=False))
