"""Dense autoencoders of aejax, their residuals, and two controls."""

from __future__ import annotations

import dataclasses
import functools
import time

import jax.numpy as jnp
import numpy as np

from aejax import fit
from aejax.config import EFFORTS, Config, Dense, Effort, NoiseConditioned, Train, Variational
from aejax.core import learn, scaling
from aejax.data.schema import Schema
from aejax.detection.cross_fitting import MOST_ROWS
from aejax.detection.detector import Detector
from aejax.detection.drift import usual_values
from aejax.detection.normal import learn_normal, with_normal
from aejax.detection.population import Population, fit_population
from aejax.estimator import PyODAutoEncoder
from aejax.models.build import build
from aejax.row_scores.nearest import nearest_distance
from benchmarks.detectors.protocol import Scored, Split

STEPS = 1500
# Of rows among which there are anomalies; chosen on `benchmarks.development_sets`.
FEW_STEPS, DROPOUT, TRIM = 400, 0.2, 0.3
QUICK_STEPS = 100
BATCH_SIZE = 128


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
        score: `Config.score`.
        trim: share of every batch, with the largest losses, that is not learnt from.
        dropout: share of the hidden units that are dropped in training.
        steps: of training.
        passes: most epochs; None has none.
        conditioned: whether it is given the level of its noise, which is drawn (`noise` is none).
        trained: False leaves the parameters as initialised.
    """

    hidden: tuple[int, ...] = (128, 64)
    decoder: tuple[int, ...] | None = None
    noise: float = 0.1
    members: int = 4
    latent: int | None = None
    score: str = "error"
    trim: float = 0.0
    dropout: float = 0.0
    steps: int = STEPS
    passes: int | None = None
    conditioned: bool = False
    trained: bool = True


def config(form: Form, split: Split, seed: int, quick: bool) -> Config:
    """Settings of one member: AdamW, a cosine schedule from 0.002, batches of 128."""
    steps = QUICK_STEPS if quick else form.steps
    if form.passes is not None:
        steps = min(steps, form.passes * -(-len(split.train) // BATCH_SIZE))
    train = Train(
        steps=steps,
        batch_size=BATCH_SIZE,
        noise=form.noise,
        trim=form.trim,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="cosine",
        weight_decay=1e-4,
        validation_fraction=0.0,
        seed=seed,
    )
    network = Dense(hidden=form.hidden, decoder=form.decoder, dropout=form.dropout)
    if form.latent is None:
        return Config(
            model=NoiseConditioned(network=network) if form.conditioned else network,
            scale=split.scale,
            train=train,
            # Those of several are of the networks that other forms have, too (`rescored`).
            score=form.score if form.members == 1 else "error",
        )
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
    if form.score != "error":
        population = rescored(population, form.score, split)
    return Scored(population.ensemble(split.train).score(split.test), before)


def rescored(population: Population, score: str, split: Split) -> Population:
    """The same networks with another score, and what it needs to know of the training rows."""

    def again(one: Detector | None) -> Detector | None:
        if one is None:
            return None
        scored = dataclasses.replace(one, config=dataclasses.replace(one.config, score=score))
        (learnt,) = learn_normal(scored, [split.train], [split.train])
        return with_normal(scored, learnt, usual_values(split.train, scored.schema))

    return dataclasses.replace(population, detectors=tuple(map(again, population.detectors)))


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


def nearest(split: Split, seed: int, quick: bool = False) -> Scored:
    """Mean squared distance from the 5 nearest training rows, without any network."""
    train, test = (jnp.asarray(rows) for rows in split.scaled)
    found = [nearest_distance(train, test[at : at + 1000]) for at in range(0, len(test), 1000)]
    return Scored(np.concatenate([np.asarray(part) for part in found]))


def norm(split: Split, seed: int, quick: bool = False) -> Scored:
    """The scaled row's mean square: what a network that always answers 0 would score."""
    return Scored(np.mean(np.square(split.scaled[1]), axis=1))


def estimator(split: Split, seed: int, quick: bool = False) -> Scored:
    """`PyODAutoEncoder` as it is, which expects anomalies among the rows it is fitted on."""
    found = PyODAutoEncoder(random_state=seed)
    if quick:
        found.set_params(steps=QUICK_STEPS)
    return Scored(found.fit(split.train).decision_function(split.test))


def effort(name: Effort, split: Split, seed: int, quick: bool = False) -> Scored:
    """What `aejax.fit` gives for the name of an effort, but for its threshold.

    Where that is set by cross-fitting no row is held out; the folds' networks, which score
    nothing here, are not trained.
    """
    config = Config.of_effort(name, calibration="held-out")
    crossed = len(split.train) <= MOST_ROWS
    train = dataclasses.replace(
        config.train,
        seed=1000 * seed,
        steps=QUICK_STEPS if quick else config.train.steps,
        validation_fraction=0.0 if crossed else config.train.validation_fraction,
    )
    fitted = fit(
        dataclasses.replace(config, train=train), split.train, members=EFFORTS[name].members
    )
    return Scored(fitted.score(split.test))


dense = functools.partial(detect, Form())
single = functools.partial(detect, Form(members=1))
eight = functools.partial(detect, Form(members=8))
narrow = functools.partial(detect, Form(hidden=(64, 32), noise=0.0))
wide = functools.partial(detect, Form(hidden=(256, 256), decoder=(), noise=0.3))
whitened = functools.partial(detect, Form(score="residual-distance"))
wide_whitened = functools.partial(
    detect, Form(hidden=(256, 256), decoder=(), noise=0.3, score="residual-distance")
)
neighbours = functools.partial(detect, Form(score="error-and-neighbours"))
noisy_neighbours = functools.partial(
    detect, Form(members=1, noise=0.5, score="error-and-neighbours")
)
conditioned = functools.partial(
    detect,
    Form(
        hidden=(128, 128),
        decoder=(),
        noise=0.0,
        members=1,
        score="noise-levels-and-neighbours",
        conditioned=True,
    ),
)
standard = functools.partial(effort, "standard")
quick = functools.partial(effort, "quick")
best = functools.partial(effort, "best")
trimmed = functools.partial(detect, Form(trim=0.1))
# As many passes as PyOD's AutoEncoder takes by default.
brief = functools.partial(detect, Form(trim=0.1, passes=10))
trimmed_neighbours = functools.partial(detect, Form(trim=0.1, score="error-and-neighbours"))
contaminated = functools.partial(detect, Form(dropout=DROPOUT, trim=TRIM, steps=FEW_STEPS))
variational = functools.partial(detect, Form(noise=0.0, latent=16))
untrained = functools.partial(detect, Form(trained=False))
