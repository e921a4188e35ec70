"""Whether products of fewer bits score faster: float32, bfloat16 and int8 in turn.

    python -m benchmarks.precision

One compiled program a precision and network, on 2,048 rows in the device's memory; weights are
random, since speed doesn't depend on them. int8 is the usual way after training: weights are
quantised beforehand, by column, what meets them by row inside the program, with symmetric
scales; products are accumulated in int32. The package scores in float32 and bfloat16; this
says what a third kind would buy.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.report import environment_lines, table

NETWORKS = {
    "dense": (784, 64, 784),
    "mlperf": (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640),
    "wide": (1024, 2048, 512, 64, 512, 2048, 1024),
}
PRECISIONS = ("float32", "bfloat16", "int8")
ROWS, REPEATS = 2048, 15


def quantise(x: Any, axis: int) -> tuple[Any, Any]:
    """Whole numbers from -127 to 127, int8, and the float32 scale along an axis."""
    import jax.numpy as jnp

    most = jnp.max(jnp.abs(x), axis=axis, keepdims=True) / 127
    scale = jnp.where(most > 0, most, 1)
    return jnp.round(x / scale).astype(jnp.int8), scale


def product(precision: str, x: Any, weights: Any) -> Any:
    """float32 [rows, n] from float32 [rows, m] and weights as `prepared`."""
    import jax.numpy as jnp

    if precision != "int8":
        return jnp.dot(x.astype(precision), weights, preferred_element_type=jnp.float32)
    rows, scales = quantise(x, -1)
    kernel, columns = weights
    whole = jnp.dot(rows, kernel, preferred_element_type=jnp.int32)
    return whole.astype(jnp.float32) * scales * columns


def prepared(precision: str, weights: Any) -> Any:
    """A layer's weights in the type that the products take."""
    return quantise(weights, 0) if precision == "int8" else weights.astype(precision)


def score(precision: str, x: Any, layers: list[Any]) -> Any:
    """Mean squared error of each row's reconstruction; ReLU, and a sigmoid at the end."""
    import jax
    import jax.numpy as jnp

    found = x
    for number, weights in enumerate(layers):
        found = product(precision, found, weights)
        found = jax.nn.relu(found) if number < len(layers) - 1 else jax.nn.sigmoid(found)
    return jnp.mean(jnp.square(x - found), axis=-1)


def measure(rows: int = ROWS, repeats: int = REPEATS) -> dict[str, Any]:
    """Rows a second of every network and precision, and how far its scores lie from float32's."""
    import jax
    import jax.numpy as jnp

    from aejax.models.backend import compiler_options

    environment = machine.environment()
    networks: dict[str, Any] = {}
    random = np.random.default_rng(0)
    for name, widths in NETWORKS.items():
        x = jnp.asarray(random.random((rows, widths[0]), np.float32))
        weights = [
            jnp.asarray(random.normal(size=(a, b)).astype(np.float32) / np.sqrt(a))
            for a, b in itertools.pairwise(widths)
        ]
        programs: dict[str, Callable[[], Any]] = {}
        for precision in PRECISIONS:
            kind: Any = "float32" if precision == "float32" else "bfloat16"
            run = jax.jit(
                functools.partial(score, precision),
                compiler_options=compiler_options(kind, jax.jit),
            )
            programs[precision] = functools.partial(
                run, x, [prepared(precision, one) for one in weights]
            )
        scores = {kind: np.asarray(program()) for kind, program in programs.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in programs}
        for _ in range(repeats):
            for kind, program in programs.items():
                started = time.perf_counter()
                program().block_until_ready()
                seconds[kind].append(time.perf_counter() - started)
        networks[name] = {
            kind: {
                "rows_per_second": rows / statistics.median(seconds[kind]),
                "seconds": seconds[kind],
                "beside_bfloat16": statistics.median(
                    b / a for a, b in zip(seconds[kind], seconds["bfloat16"], strict=True)
                ),
                "difference": float(np.max(np.abs(scores[kind] / scores["float32"] - 1))),
            }
            for kind in PRECISIONS
        }
    return {
        "suite": "precision",
        "environment": environment,
        "rows": rows,
        "repeats": repeats,
        "networks": networks,
    }


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        [
            name,
            kind,
            f"{one['rows_per_second']:,.0f}",
            f"{one['beside_bfloat16']:.2f}x",
            f"{one['difference']:.1e}",
        ]
        for name, found in results["networks"].items()
        for kind, one in found.items()
    ]
    head = ["network", "products", "rows/s on the device", "beside bfloat16", "score difference"]
    return "\n\n".join(["# Precisions", environment_lines(results), table(head, lines)])


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = measure(options.rows, options.repeats)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(as_table(results))


if __name__ == "__main__":
    main()
