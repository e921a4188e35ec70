"""What the backend at hand wants to hear to be fast, where its own choice isn't the fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from aejax.config import Precision

CompilerOptions = dict[str, bool | int | float | str]

# XLA's CPU backend gives products to YNNPACK. In bfloat16 that is its road to AMX and three
# times Eigen's speed; in float32 Eigen takes half the time for 512x128 by 128x128 and
# 7 to 25 % less for whole models (benchmarks/README.md). Reductions stay with YNNPACK.
_FLOAT32_ON_CPU: CompilerOptions = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}
_ONE_THREAD: CompilerOptions = {"xla_cpu_multi_thread_eigen": False}


def compiler_options(
    precision: Precision, jit: Callable[..., Any], *, one_thread: bool = False
) -> CompilerOptions | None:
    """Compiler options for programs whose products have inputs of one precision, or None.

    Args:
        precision: of the products.
        jit: what compiles, handed in by the one file that may compile.
        one_thread: run on one thread of a CPU.
    """
    if jax.default_backend() != "cpu":
        return None
    options: CompilerOptions = dict(_ONE_THREAD) if one_thread else {}
    if precision != "bfloat16" and _is_known(jit):
        options |= _FLOAT32_ON_CPU
    return options or None


@functools.cache
def _is_known(jit: Callable[..., Any]) -> bool:
    """Whether this release of XLA knows the option; experimental ones come and go."""
    try:
        jit(lambda x: x, compiler_options=_FLOAT32_ON_CPU).lower(0.0).compile()
    except Exception:  # The type of this error is not part of JAX's public interface.
        return False
    return True
