"""How large and how deep the package is: `python -m benchmarks.structure`.

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


def to_the_product() -> list[str]:
    """Functions of aejax between `Detector.score` and a network's product, as it is traced."""
    seen: list[str] = []

    def init(key: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"w": np.eye(shape[0], dtype=np.float32)}

    def apply(variables: Any, x: Any) -> Any:
        frames = traceback.extract_stack()
        seen[:] = [f"{Path(f.filename).stem}.{f.name}" for f in frames if str(HOME) in f.filename]
        return x @ variables["w"]

    x = np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)
    config = aejax.Config(model=aejax.network(init, apply), train=aejax.Train(epochs=1))
    detector = aejax.fit(config, x)
    seen.clear()
    # A size of batches that no stage of `fit` had.
    detector.score(np.repeat(x, 200, axis=0), batch_size=777)
    return seen


def main() -> None:
    """Print the figures as JSON."""
    files = sorted(HOME.rglob("*.py"))
    texts = {file: file.read_text() for file in files}
    x = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float32)
    detector = aejax.fit(aejax.Config(train=aejax.Train(epochs=1)), x)
    for rows in (x, x[:1]):
        detector.score(rows)
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
                "calls_to_the_product": to_the_product(),
                "isinstance": decided,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
