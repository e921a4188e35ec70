"""PyOD's networks with their own defaults, on the rows as `Split.scaled` gives them.

They run in one thread: on rows as narrow as these a second one makes them slower, and on a
machine with other work very much so.
"""

from __future__ import annotations

import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.vae import VAE

from benchmarks.detectors.protocol import Scored, Split
from benchmarks.detectors.with_pyod import scores_of

torch.set_num_threads(1)


def autoencoder(split: Split, seed: int, quick: bool = False) -> Scored:
    """d-64-32-64-d with batch normalisation and dropout, 10 epochs of batch 32."""
    return scores_of(AutoEncoder(random_state=seed, verbose=0), split)


def variational(split: Split, seed: int, quick: bool = False) -> Scored:
    """d-128-64-32-2-32-64-128-d, 30 epochs of batch 32."""
    return scores_of(VAE(random_state=seed, verbose=0), split)


def one_class(split: Split, seed: int, quick: bool = False) -> Scored:
    """d-64-32, distance to a centre, 100 epochs of batch 32."""
    features = split.train.shape[1]
    return scores_of(DeepSVDD(n_features=features, random_state=seed, verbose=0), split)
