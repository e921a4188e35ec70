"""What the backend at hand wants to hear to be fast, where its own choice isn't the fastest."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import jax

from aejax.config import InputError, Precision

CompilerOptions = dict[str, bool | int | float | str]

# XLA's CPU backend gives products to YNNPACK. In bfloat16 that is its road to AMX and three
# times Eigen's speed; in float32 Eigen takes half the time for 512x128 by 128x128 and
# 7 to 25 % less for whole models (benchmarks/README.md). Reductions stay with YNNPACK.
_FLOAT32_ON_CPU: CompilerOptions = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}
_ONE_THREAD: CompilerOptions = {"xla_cpu_multi_thread_eigen": False}

# Process ids of this fork and its parent, where JAX had begun to compute before the fork.
_forked: tuple[int, int] | None = None


def _note_fork() -> None:
    global _forked
    # JAX has no public word for it, and its own takes a lock that a thread may have held.
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None)
    if started or _forked:
        _forked = (os.getpid(), os.getppid())


if hasattr(os, "register_at_fork"):  # Windows doesn't fork.
    os.register_at_fork(after_in_child=_note_fork)


def check_own_process() -> None:
    """Refuse to compute in a fork that lacks the threads of its parent's JAX: it would never end.

    Raises:
        InputError: if JAX had begun to compute when this process was forked.
    """
    if _forked:
        raise InputError(
            f"process {_forked[0]} was forked from process {_forked[1]}, where JAX had begun to "
            "compute, and lacks its threads; allowed: a process that was started by spawn "
            '(multiprocessing.get_context("spawn")), or forked before anything was computed'
        )


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
    if precision == "float32" and _is_known(jit):
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
