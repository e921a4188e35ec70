"""Calls of compiled programs, looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aejax.core import steps


def before_each(patch: pytest.MonkeyPatch, look: Callable[[tuple[Any, ...]], None]) -> None:
    """Have every compiled program's arguments looked at first; what `look` raises ends the call."""
    call, on = steps.Compiled.__call__, steps.Compiled.on

    def looked_at(compiled: steps.Compiled, *args: Any, **kwargs: Any) -> Any:
        look(args)
        return call(compiled, *args, **kwargs)

    def looked_at_on(compiled: steps.Compiled, *arrays: Any) -> Callable[..., Any]:
        program = on(compiled, *arrays)

        def run(*args: Any, **kwargs: Any) -> Any:
            look(args)
            return program(*args, **kwargs)

        return run

    patch.setattr(steps.Compiled, "__call__", looked_at)
    patch.setattr(steps.Compiled, "on", looked_at_on)
