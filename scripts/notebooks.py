"""Run the notebooks and keep in them what their cells give: values, and drawings as PNG.

    python scripts/notebooks.py [NOTEBOOK ...]

No Jupyter is needed. Cells run in their order in one namespace, as "Run all" does; data sets are
read as docs/notebooks.md says.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parents[1] / "docs" / "notebooks"
DPI = 90


def outputs_of(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell; gives its last expression's value and its drawings as a notebook keeps them."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {count}", "exec"), names)
    found: list[dict[str, Any]] = []
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
        if value is not None and not plt.get_fignums():
            found.append(
                {
                    "output_type": "execute_result",
                    "execution_count": count,
                    "metadata": {},
                    "data": {"text/plain": [repr(value)]},
                }
            )
    for number in plt.get_fignums():
        drawn = io.BytesIO()
        plt.figure(number).savefig(drawn, format="png", dpi=DPI, bbox_inches="tight")
        image = base64.b64encode(drawn.getvalue()).decode("ascii")
        found.append({"output_type": "display_data", "metadata": {}, "data": {"image/png": image}})
    plt.close("all")
    return found


def run(path: Path) -> None:
    """Run a notebook, and write it with its outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["outputs"] = outputs_of("".join(cell["source"]), names, count)
            cell["execution_count"] = count
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        run(path)
