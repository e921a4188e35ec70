"""The variational autoencoder of the benchmarks: all systems minimise the same quantity."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from aejax.models.variational import divergence
from benchmarks import reference
from benchmarks.cases import CASES, make_rows, make_weights
from benchmarks.systems import with_aejax, with_flax
from benchmarks.systems.job import Job


def variational_job() -> tuple[Job, np.ndarray, np.ndarray]:
    """A job, samples of its latent values, and the negative ELBO of its rows in float64."""
    case = CASES["vae"]
    weights = make_weights(case)
    noise = np.random.default_rng(3).normal(size=(5, 20)).astype(np.float32)
    job = Job(case=case, weights=weights, rows=make_rows(case, 5))
    return job, noise, reference.negative_elbo(case, weights, job.rows, noise)


def test_the_negative_elbo_is_that_of_numerical_integration() -> None:
    """The divergence is an integral over a normal density, one latent dimension at a time."""
    job, noise, found = variational_job()
    case, place = job.case, job.case.posterior
    assert place is not None
    first = job.weights[0]
    hidden = np.maximum(job.rows.astype(np.float64) @ first["kernel"] + first["bias"], 0)
    posterior = job.weights[place]
    mean = hidden @ posterior["kernel"] + posterior["bias"]
    log_variance = hidden @ posterior["log_variance_kernel"] + posterior["log_variance_bias"]
    spread = np.exp(0.5 * log_variance)
    grid = np.linspace(-12, 12, 4001)
    z = mean[..., None] + spread[..., None] * grid
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    ratio = (z**2 - grid**2) / 2 - np.log(spread)[..., None]
    divergence = (density * ratio).sum(axis=(1, 2)) * (grid[1] - grid[0])
    decoded = mean + spread * noise
    for layer, arrays in zip(case.layers[place + 1 :], job.weights[place + 1 :], strict=True):
        decoded = reference._apply(layer, arrays, decoded)
    likelihood = np.where(job.rows > 0.5, decoded, 1 - decoded)
    binary = (job.rows > 0.5).astype(np.float64)
    # Of binary rows the likelihood is a probability; of others it is linear in the row.
    logits = np.log(decoded) - np.log1p(-decoded)
    nats = -np.log(likelihood).sum(axis=1) - ((job.rows - binary) * logits).sum(axis=1)
    np.testing.assert_allclose(found, nats + divergence, rtol=1e-6)


def test_all_train_the_variational_autoencoder_with_the_same_loss() -> None:
    job, noise, expected = variational_job()
    training = with_flax.Training(job)
    rows: Any = job.rows
    parts: Any = training.model.apply(training.fresh, rows, noise)
    np.testing.assert_allclose(with_flax.negative_elbo(parts, rows), expected, rtol=1e-5)

    ours = with_aejax.Scoring(job).detector
    model = ours.scoring.model
    assert ours.config.train.beta == 1
    mean, log_variance = model.call("posterior", ours.variables, rows)
    latent = mean + np.exp(0.5 * log_variance) * noise
    nats: Any = model.call("negative_log_likelihood", ours.variables, rows, latent)
    total = nats + divergence(mean, log_variance)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "keras"])
def test_peers_train_the_variational_autoencoder_with_the_same_loss(library: str) -> None:
    pytest.importorskip("tensorflow" if library == "keras" else library)
    job, noise, expected = variational_job()
    system: Any = importlib.import_module(f"benchmarks.systems.with_{library}")
    model = system.Variational(job, job.case.posterior)
    given = (job.rows, noise)
    if library == "torch":
        model.requires_grad_(False)
        given = tuple(map(system.torch.from_numpy, given))
    assert float(model.negative_elbo(*given)) == pytest.approx(expected.mean(), rel=1e-5)
