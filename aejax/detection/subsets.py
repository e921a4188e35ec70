"""Random parts: of features, units, connections and rows for an ensemble, and folds of rows."""

from __future__ import annotations

import numpy as np

from aejax.config import Dense, InputError, Vary
from aejax.data import batches
from aejax.training.masks import Parts


def random_parts(vary: Vary, model: object, features: int, members: int, seed: int) -> list[Parts]:
    """What each member has of a fully connected autoencoder.

    Args:
        vary: what members differ in, and how much.
        model: its settings.
        features: of a row.
        members: how many.
        seed: the first members of a larger ensemble are those of a smaller one.

    Raises:
        InputError: if the model is of another kind.

    Example:
        >>> parts = random_parts(Vary(features=0.5), Dense(hidden=(8, 3)), 10, 4, 0)
        >>> all(5 <= one.features.sum() <= 9 for one in parts)
        True
    """
    if not isinstance(model, Dense):
        raise InputError(
            f"Vary asks for parts of a {type(model).__name__}; allowed: of a Dense model"
        )
    found = []
    for member in range(members):
        random = batches.host_random(seed, "parts", member)
        kept = None
        if vary.features is not None:
            least = max(1, int(np.ceil(vary.features * features)))
            count = int(random.integers(least, max(least, features - 1) + 1))
            kept = np.zeros(features, bool)
            kept[random.choice(features, count, replace=False)] = True
        hidden = decoder = None
        if vary.units is not None:
            hidden = _fewer(random, model.hidden, vary.units)
            if model.decoder is not None:
                decoder = _fewer(random, model.decoder, vary.units)
        found.append(
            Parts(
                features=kept,
                hidden=hidden,
                decoder=decoder,
                connections=vary.connections,
                seed=int(random.integers(1 << 32)),
            )
        )
    return found


def _fewer(random: np.random.Generator, widths: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(
        int(random.integers(max(1, int(np.ceil(share * width))), width + 1)) for width in widths
    )


def random_rows(vary: Vary, training: np.ndarray, members: int, seed: int) -> list[np.ndarray]:
    """The rows that each member trains on, in ascending order.

    Args:
        vary: which share of them.
        training: positions of all training rows.
        members: how many.
        seed: as in `random_parts`.
    """
    if vary.rows is None:
        return [training] * members
    count = max(1, round(vary.rows * len(training)))
    return [
        np.sort(batches.host_random(seed, "rows", member).choice(training, count, replace=False))
        for member in range(members)
    ]


def split_folds(rows: int, folds: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold's rows, ascending; sizes differ by at most one.

    Raises:
        InputError: if there are fewer than two folds, or fewer than two rows in each.
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise InputError(f"folds is {folds!r}; allowed: a whole number, at least 2")
    if rows < 2 * folds:
        raise InputError(
            f"{rows} normal rows for {folds} folds; allowed: at least {2 * folds} rows, 2 a fold"
        )
    shuffled = batches.host_random(seed, "folds").permutation(rows)
    return [np.sort(part) for part in np.array_split(shuffled, folds)]
