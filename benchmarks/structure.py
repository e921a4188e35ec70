"""How large and how deep the package is: python -m benchmarks.structure

Lines and files of `aejax/`, functions of aejax on the stack where a warm `Detector.score` is
deepest, nested calls down to the matrix product while it is traced, and lines where an
`isinstance` on a network, a rule or a detector decides.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np

import aejax

HOME = Path(aejax.__file__).parent
DECIDES = re.compile(
    r"isinstance\([^)]*\b(Dense|Conv|Variational|Classifier|Context|SuperResolution|OwnNetwork"
    r"|Quantile|Conformal|Detector|GroupThresholds|Threshold|ProgramNetwork|Rule)\b"
)


def deepest(function: Callable[[], Any]) -> list[str]:
    """The functions of aejax on the stack at its deepest, while a function runs."""
    stack: list[str] = []
    most: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # `<lambda>` and comprehensions are functions, too.
        if not code.co_filename.startswith(str(HOME)):
            return
        if event == "call":
            stack.append(f"{Path(code.co_filename).stem}.{code.co_name}")
            if len(stack) > len(most):
                most[:] = stack
        elif event == "return" and stack:
            stack.pop()

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return most


def to_the_product(detector: aejax.Detector, x: np.ndarray) -> list[str]:
    """Functions of aejax between `Detector.score` and the first matrix product, as it is traced."""
    seen: list[str] = []
    product = jnp.matmul

    def noted(*args: Any, **how: Any) -> Any:
        if not seen:
            frames = traceback.extract_stack()
            seen.extend(f"{Path(f.filename).stem}.{f.name}" for f in frames if str(HOME) in f.filename)
        return product(*args, **how)

    from jax import lax

    general = lax.dot_general

    def general_noted(*args: Any, **how: Any) -> Any:
        if not seen:
            frames = traceback.extract_stack()
            seen.extend(f"{Path(f.filename).stem}.{f.name}" for f in frames if str(HOME) in f.filename)
        return general(*args, **how)

    with mock.patch.object(jnp, "matmul", noted), mock.patch.object(lax, "dot_general", general_noted):
        detector.score(x)
    return seen


def main() -> None:
    """Print the figures as JSON."""
    files = sorted(HOME.rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    x = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float32)
    detector = aejax.fit(aejax.Config(train=aejax.Train(epochs=1)), x)
    for rows in (x, x[:1]):
        detector.score(rows)
    other = aejax.Config(model=aejax.Dense(hidden=(13, 5)), train=aejax.Train(epochs=1))
    fresh = aejax.fit(other, x[:64])
    decided = [
        f"{file.relative_to(HOME)}:{number}"
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if DECIDES.search(line)
    ]
    print(
        json.dumps(
            {
                "files": len(files),
                "lines": sum(text.count("\n") for text in texts.values()),
                "warm_score_of_a_row": deepest(lambda: detector.score(x[:1])),
                "warm_score_of_rows": deepest(lambda: detector.score(x)),
                "calls_to_the_product": to_the_product(fresh, x[:700]),
                "isinstance": decided,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
