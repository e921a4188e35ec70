"""The mean reconstruction error."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax


@dataclasses.dataclass(frozen=True)
class Error:
    """The mean of a row's errors of features."""

    is_mean_error: ClassVar[bool] = True
    words: ClassVar[str] = "how badly {model}, trained on {rows}, rebuilds it"

    def apply(self, network: Any, variables: Any, x: jax.Array, error: Any) -> jax.Array:
        """Float32 [B]."""
        errors: jax.Array = error.mean(x, network.apply(variables, x))
        return errors
