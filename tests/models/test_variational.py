"""The variational autoencoder against NumPy in float64: values, bounds, gradients, scores."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from aejax.config import Conv, Dense, InputError, Scale, Train, Variational
from aejax.core import objectives, optimizers
from aejax.core.learn import named_key
from aejax.core.objectives import Fed
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection.detector import Detector
from aejax.detection.fitting import fit
from aejax.models.build import build
from aejax.models.variational import divergence
from tests.plain import plain_config

ROWS, FEATURES, LATENT = 6, 9, 3
SCHEMA = Schema(shape=(FEATURES,))
MODEL = Variational(
    network=Dense(hidden=(5,), activation="tanh", output="sigmoid"), latent=LATENT, samples=7
)
NORMAL = Variational(
    network=Dense(hidden=(5,), activation="tanh"), latent=LATENT, likelihood="normal", samples=7
)


def rows() -> np.ndarray:
    """Values in [0, 1], with both ends."""
    x = np.random.default_rng(0).random((ROWS, FEATURES))
    x[0, :3] = 0, 1, 0
    return x


def variables_of(model: Variational, schema: Schema = SCHEMA) -> dict[str, Any]:
    """Parameters with biases that are not 0."""
    made = jax.eval_shape(
        build(model, schema).module.init, jax.random.key(0), jnp.zeros((1, *schema.shape))
    )
    random = np.random.default_rng(1)
    return {
        "params": jax.tree.map(
            lambda leaf: np.float32(random.normal(scale=0.5, size=leaf.shape)), made["params"]
        )
    }


def affine(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def posterior(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, in float64."""
    hidden = np.tanh(affine(params["network"]["encoder_layers_0"], x))
    mean = affine(params["mean_layer"], hidden)
    return mean, np.exp(0.5 * affine(params["log_variance_layer"], hidden))


def logits(params: Any, latent: np.ndarray) -> np.ndarray:
    hidden = np.tanh(affine(params["expand_layer"], latent))
    return affine(params["network"]["output_layer"], hidden)


def log_likelihood(model: Variational, params: Any, x: np.ndarray, latent: np.ndarray) -> Any:
    """log p(x | latent) of every row, in float64."""
    y = logits(params, latent)
    if model.likelihood == "normal":
        return stats.norm.logpdf(x, loc=y).sum(axis=-1)
    p = 1 / (1 + np.exp(-y))
    return (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=-1)


def divergence_by_quadrature(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """E[log q - log p] under q: exact, because both logarithms are quadratic."""
    points, weights = np.polynomial.hermite_e.hermegauss(4)
    z = mean[..., np.newaxis] + deviation[..., np.newaxis] * points
    q = stats.norm.logpdf(z, mean[..., np.newaxis], deviation[..., np.newaxis])
    each = (q - stats.norm.logpdf(z)) @ weights / math.sqrt(2 * math.pi)
    return each.sum(axis=-1)


def negative_elbo(model: Variational, params: Any, x: np.ndarray, noise: np.ndarray) -> Any:
    """With given samples of the standard normal, in float64, by the densities themselves."""
    mean, deviation = posterior(params, x)
    latent = mean + deviation * noise
    kl = divergence_by_quadrature(mean, deviation)
    return -log_likelihood(model, params, x, latent), kl


def test_reconstruction_is_that_of_the_posteriors_mean() -> None:
    x, variables = rows(), variables_of(MODEL)
    module, params = build(MODEL, SCHEMA).module, variables["params"]
    mean, _ = posterior(params, x)
    latent = module.apply(variables, np.float32(x), method="encode")
    np.testing.assert_allclose(latent, mean, atol=2e-6)
    found = module.apply(variables, np.float32(x))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits(params, mean))), atol=2e-6)
    decoded = module.apply(variables, latent, method="decode")
    np.testing.assert_allclose(decoded, found, atol=1e-6)


def test_divergence_is_the_integral() -> None:
    mean, log_variance = np.array([[0.0, 1.5], [-2.0, 0.3]]), np.array([[0.0, -3.0], [1.2, 0.5]])
    expected = divergence_by_quadrature(mean, np.exp(0.5 * log_variance))
    found = divergence(np.float32(mean), np.float32(log_variance))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(divergence(np.zeros((1, 4)), np.zeros((1, 4)))[0]) == 0


@pytest.mark.parametrize("model", [MODEL, NORMAL])
def test_likelihood_is_scipys(model: Variational) -> None:
    x, variables = rows(), variables_of(model)
    latent = np.random.default_rng(2).normal(size=(ROWS, LATENT))
    found = build(model, SCHEMA).module.apply(
        variables, np.float32(x), np.float32(latent), method="negative_log_likelihood"
    )
    expected = -log_likelihood(model, variables["params"], x, latent)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bernoulli_likelihood_of_binary_pixels_is_the_probability_of_the_image() -> None:
    variables = variables_of(MODEL)
    latent = np.random.default_rng(2).normal(size=(1, LATENT))
    every = np.array(np.meshgrid(*[[0.0, 1.0]] * FEATURES)).reshape(FEATURES, -1).T
    found = build(MODEL, SCHEMA).module.apply(
        variables,
        np.float32(every),
        np.float32(latent.repeat(len(every), axis=0)),
        method="negative_log_likelihood",
    )
    assert math.isclose(float(np.exp(-np.float64(found)).sum()), 1, rel_tol=1e-5)


def test_a_sure_and_wrong_pixel_costs_its_logit() -> None:
    """Where the sigmoid rounds to 1, the logit still says how wrong it was."""
    variables = variables_of(MODEL)
    variables["params"]["network"]["output_layer"]["bias"] += 200
    found = build(MODEL, SCHEMA).module.apply(
        variables,
        np.zeros((1, FEATURES), np.float32),
        np.zeros((1, LATENT), np.float32),
        method="negative_log_likelihood",
    )
    expected = logits(variables["params"], np.zeros((1, LATENT))).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("model", [MODEL, NORMAL])
@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_training_minimises_the_negative_elbo(model: Variational, beta: float) -> None:
    config = plain_config(model=model, scale=Scale(kind="none"), train=Train(beta=beta))
    network, variables, x = build(model, SCHEMA), variables_of(model), rows()
    fed = Fed(
        x=jnp.asarray(x, jnp.float32),
        target=None,
        mask=jnp.ones(ROWS, bool),
        key=jax.random.key(3),
        values=optimizers.numbers(config, 1),
    )
    objective = objectives.objective_of(config)

    def total(params: Any) -> jax.Array:
        losses, _ = objectives.row_losses(objective, network, {"params": params}, fed, train=True)
        return losses

    # The samples that the objective drew, read back from the likelihood's arguments.
    drawn = network.module.apply(
        variables,
        rngs={"samples": jax.random.fold_in(fed.key, 2)},
        method=lambda m: jax.random.normal(m.make_rng("samples"), (ROWS, LATENT)),
    )
    noise = np.float64(drawn)
    reconstruction, kl = negative_elbo(model, variables["params"], x, noise)
    losses = jax.jit(total)(variables["params"])
    np.testing.assert_allclose(losses, reconstruction + beta * kl, rtol=1e-5)

    gradient = jax.jit(jax.grad(lambda params: total(params).mean()))(variables["params"])
    step = 1e-5
    for path in (
        ("mean_layer", "kernel"),
        ("log_variance_layer", "kernel"),
        ("expand_layer", "bias"),
        ("network", "encoder_layers_0", "kernel"),
    ):
        expected = []
        for sign in (1, -1):
            moved = jax.tree.map(np.float64, variables["params"])
            leaf = moved
            for name in path:
                leaf = leaf[name]
            leaf.flat[1] += sign * step
            parts = negative_elbo(model, moved, x, noise)
            expected.append(np.mean(parts[0] + beta * parts[1]))
        found = gradient
        for name in path:
            found = found[name]
        np.testing.assert_allclose(
            np.ravel(found)[1], (expected[0] - expected[1]) / (2 * step), rtol=2e-3, atol=1e-5
        )


@pytest.mark.parametrize("model", [MODEL, NORMAL])
def test_scores_are_means_over_shared_samples(model: Variational) -> None:
    x, variables = rows(), variables_of(model)
    params = variables["params"]
    noise = np.float64(jax.random.normal(named_key(0, "score"), (model.samples, LATENT)))
    parts = [negative_elbo(model, params, x, np.tile(one, (ROWS, 1))) for one in noise]
    reconstruction = np.mean([part[0] for part in parts], axis=0)
    for score, expected in (
        ("negative-elbo", reconstruction + parts[0][1]),
        ("reconstruction-probability", reconstruction),
    ):
        detector = detector_of(model, variables, score=score)
        found = detector.score(np.float32(x))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        # A row's score is its own: not of its place, nor of who else is there.
        np.testing.assert_allclose(detector.score(np.float32(x[::-1]))[::-1], found, rtol=1e-6)
        np.testing.assert_allclose(detector.score(np.float32(x[2:3])), found[2:3], rtol=1e-6)


def test_score_from_many_samples_is_a_monte_carlo_estimate_and_a_bound() -> None:
    """The bound agrees with NumPy's own samples, and lies above the log evidence."""
    model, x = dataclasses.replace(MODEL, samples=200), rows()
    variables = variables_of(model)
    params = variables["params"]
    found = detector_of(model, variables, score="negative-elbo").score(np.float32(x))
    random = np.random.default_rng(5)
    mean, deviation = posterior(params, x)
    latent = mean + deviation * random.normal(size=(20_000, ROWS, LATENT))
    likelihood = log_likelihood(model, params, x, latent)
    kl = negative_elbo(model, params, x, np.zeros((ROWS, LATENT)))[1]
    error = likelihood.std(axis=0) * (200**-0.5 + 20_000**-0.5)
    assert np.all(np.abs(found - (kl - likelihood.mean(axis=0))) < 4 * error)
    # log p(x) = log of the mean over the posterior of p(x | z) p(z) / q(z | x).
    weights = (
        likelihood
        + stats.norm.logpdf(latent).sum(axis=-1)
        - stats.norm.logpdf(latent, mean, deviation).sum(axis=-1)
    )
    evidence = np.log(np.mean(np.exp(weights - weights.max(axis=0)), axis=0)) + weights.max(axis=0)
    assert np.all(found > -evidence - 4 * error)


def test_wild_log_variances_stay_finite() -> None:
    variables = variables_of(MODEL)
    variables["params"]["log_variance_layer"]["bias"] += 1e4
    _, spread = build(MODEL, SCHEMA).module.apply(variables, np.float32(rows()), method="posterior")
    assert np.isfinite(np.exp(spread)).all()
    assert np.isfinite(divergence(np.zeros_like(spread), spread)).all()


def detector_of(model: Variational, variables: dict[str, Any], **how: Any) -> Detector:
    return Detector(
        config=plain_config(model=model, scale=Scale(kind="none"), **how),
        schema=SCHEMA,
        scaler=Scaler(None, None, None),
        variables=variables,
    )


def test_new_rows_are_decoded_samples_of_the_prior() -> None:
    detector = detector_of(MODEL, variables_of(MODEL))
    found = detector.generate(2000, seed=4)
    assert found.shape == (2000, FEATURES)
    assert found.min() > 0
    assert found.max() < 1
    np.testing.assert_array_equal(found, detector.generate(2000, seed=4))
    assert not np.array_equal(found, detector.generate(2000, seed=5))
    latent = np.random.default_rng(6).normal(size=(20_000, LATENT))
    expected = 1 / (1 + np.exp(-logits(detector.variables["params"], latent)))
    error = expected.std(axis=0) / math.sqrt(2000)
    assert np.all(np.abs(found.mean(axis=0) - expected.mean(axis=0)) < 5 * error)
    with pytest.raises(InputError, match=r"generate: the model is Dense; allowed: Variational"):
        fit(
            plain_config(train=Train(epochs=1)), np.random.default_rng(0).normal(size=(8, 3))
        ).generate(1)


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (Variational(network=Dense(hidden=(16,), output="sigmoid"), latent=2), Schema(shape=(12,))),
        (
            Variational(network=Conv(channels=(4, 6)), latent=2),
            Schema(shape=(8, 8, 1), kind="image"),
        ),
    ],
)
def test_training_lowers_the_bound_and_learns_a_latent_space(
    model: Variational, schema: Schema
) -> None:
    """Two kinds of rows become two places in the latent space, and come back out of it."""
    random = np.random.default_rng(0)
    kinds = random.random((2, *schema.shape)) > 0.5
    which = random.integers(2, size=400)
    x = np.where(random.random((400, *schema.shape)) < 0.05, ~kinds[which], kinds[which])
    config = plain_config(
        model=model,
        scale=Scale(kind="none"),
        train=Train(epochs=25, batch_size=50, learning_rate=1e-2),
        score="negative-elbo",
    )
    detector = fit(config, x.astype(np.float32), schema=schema)
    losses = [row["validation_loss"] for row in detector.history]
    # What no model gets below: the entropy of 5 % noise, and which of the two kinds it is.
    least = 0.199 * schema.features + math.log(2)
    assert 0.75 * least < losses[-1] < min(1.4 * least, 0.6 * losses[0])
    again = detector.decode(detector.encode(x.astype(np.float32))) > 0.5
    assert np.mean(again == kinds[which]) > 0.97
    near = [
        np.abs(detector.generate(50) - kind).mean(axis=tuple(range(1, x.ndim))) for kind in kinds
    ]
    assert np.mean(np.minimum(*near) < 0.25) > 0.6
    scores = detector.score(x.astype(np.float32))
    assert abs(scores.mean() - losses[-1]) < 0.15 * losses[-1]
    assert detector.score((~kinds).astype(np.float32)).min() > np.quantile(scores, 0.99)


def test_a_larger_beta_gives_a_smaller_divergence() -> None:
    x = np.random.default_rng(0).random((200, FEATURES)) ** 4
    found = []
    for beta in (0.1, 4.0):
        config = plain_config(
            model=MODEL,
            scale=Scale(kind="none"),
            train=Train(epochs=20, batch_size=20, learning_rate=1e-2, beta=beta),
        )
        detector = fit(config, x.astype(np.float32))
        mean, spread = build(MODEL, SCHEMA).module.apply(
            detector.variables, np.float32(x), method="posterior"
        )
        found.append(float(divergence(mean, spread).mean()))
    assert found[1] < 0.5 * found[0]


def test_pixels_as_probabilities_need_a_sigmoid() -> None:
    with pytest.raises(InputError, match=r"output is 'linear'; allowed: 'sigmoid'"):
        Variational(network=Dense(hidden=(3,)))
    with pytest.raises(InputError, match=r"score is 'negative-elbo'"):
        plain_config(score="negative-elbo")
