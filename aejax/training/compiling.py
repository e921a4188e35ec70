"""How much of a run went into compiling, as JAX itself reports it."""

from __future__ import annotations

import jax.monitoring

_COMPILE = "/jax/core/compile/"
_seconds = 0.0
_listening = False


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _seconds
    if event.startswith(_COMPILE):
        _seconds += duration_secs


def compile_seconds() -> float:
    """Seconds that this process has spent tracing, lowering and compiling since the first call.

    Take the difference of two calls to time a part of a program.
    """
    global _listening
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_listen)
        _listening = True
    return _seconds
