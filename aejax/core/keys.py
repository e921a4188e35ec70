"""One seed, split by name: every use of randomness has a stream of its own.

Adding a new stream never changes the numbers drawn from the others.
"""

from __future__ import annotations

import zlib

import jax


def named_key(seed: int | jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` of a run's seed.

    Args:
        seed: the run's seed, a whole number or an integer scalar (traced ones too).
        name: what the randomness is for, such as "parameters" or "noise".
    """
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
