"""The command that explains a row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from aejax.commands.shared import Json, NoHeader, Text
from aejax.config import Dialect


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explain:
    """Say why a row has its score: features found and expected, and a drawing of them."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    input: Annotated[Path, arg(help="File of rows.")]
    row: Annotated[int, arg(help="Which row of it, from 0.")]
    top: Annotated[int, arg(help="How many features to name.")] = 5
    picture: Annotated[Path | None, arg(help="File for a drawing of the row, PNG.")] = None
    group_column: Annotated[
        str | None,
        arg(help="Of a detector of groups: the column of groups. Default: as in training."),
    ] = None
    no_header: NoHeader = False
    text: Text = Dialect()
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Explain the row."""
        from aejax.config import InputError
        from aejax.data.rows import Selection
        from aejax.recipes.explain_row import explain_row

        if self.top < 1:
            raise InputError(f"top is {self.top}; allowed: at least 1")
        return explain_row(
            self.run_folder,
            self.input,
            self.row,
            top=self.top,
            picture=self.picture,
            selection=Selection(header=not self.no_header, bad_cells="null", dialect=self.text),
            group_column=self.group_column,
        )

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """The score in a sentence, and a line a feature."""
        threshold, verdict = result["threshold"], "no threshold"
        if threshold is not None:
            side = "above" if result["is_anomaly"] else "not above"
            verdict = f"{side} the threshold {threshold:.6g}"
        facts = [
            (fact, *(_shown(fact[side]) for side in ("found", "expected")))
            for fact in result["features"]
        ]
        width = max(12, *(2 + len(text) for _, *texts in facts for text in texts))
        of_group = f" of {result['group']!r}" if "group" in result else ""
        lines = [
            f"row {result['row']}{of_group}: score {result['score']:.6g}, {verdict}",
            f"{'feature':24}{'found':>{width}}{'expected':>{width}}"
            f"{'error':>12}{'usual error':>14}",
        ]
        note = "(errors are in scaled units, as the model sees them)"
        for fact, found, expected in facts:
            usual = "" if fact["usual_error"] is None else f"{fact['usual_error']:.4g}"
            if isinstance(fact["found"], str):
                note = "(errors are in scaled units, of categories in nats)"
            lines.append(
                f"{fact['feature']:24}{found:>{width}}{expected:>{width}}"
                f"{fact['error']:>12.4g}{usual:>14}"
            )
        lines.append(note)
        if "picture" in result:
            lines.append(f"picture: {result['picture']}")
        return "\n".join(lines)


def _shown(value: float | str) -> str:
    """A number, or of a mixed table a cell in words."""
    return value if isinstance(value, str) else f"{value:.6g}"
