"""What compiled programs are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aejax.core import steps


def before_each(patch: pytest.MonkeyPatch, look: Callable[[tuple[Any, ...]], None]) -> None:
    """Have `look` see every compiled program's arguments first; what it raises ends the call."""
    call, on = steps.Compiled.__call__, steps.Compiled.on

    def watched(compiled: steps.Compiled, *args: Any, **kwargs: Any) -> Any:
        look(args)
        return call(compiled, *args, **kwargs)

    def watched_on(compiled: steps.Compiled, *arrays: Any) -> Callable[..., Any]:
        program = on(compiled, *arrays)

        def run(*args: Any, **kwargs: Any) -> Any:
            look(args)
            return program(*args, **kwargs)

        return run

    patch.setattr(steps.Compiled, "__call__", watched)
    patch.setattr(steps.Compiled, "on", watched_on)
