"""Flags that several commands have, and what several commands do."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from aejax.config import Dialect

Json = Annotated[bool, arg(help="Print one JSON object instead of text.")]
Out = Annotated[Path, arg(help="Folder to write to.")]
Overwrite = Annotated[bool, arg(help="Replace the run that the folder holds.")]
Quiet = Annotated[bool, arg(help="No progress bar.")]
Profile = Annotated[
    Path | None, arg(help="Folder for a profile of this run, for XProf, TensorBoard or Perfetto.")
]
Ensemble = Annotated[
    int | None,
    arg(help="Train so many members from the seed and those after it; they decide together."),
]
Devices = Annotated[int | None, arg(help="How many devices of a process to use. Default: all.")]
Names = tuple[str, ...]
LabelColumn = Annotated[str | None, arg(help="Column that says what a row is; never a feature.")]
NormalLabel = Annotated[
    str | None,
    arg(help="Label of normal rows; all others are anomalies. Default: labels are 0 or 1."),
]
DropColumns = Annotated[Names, arg(help="Columns that are not features.")]
Keys = Annotated[Names, arg(help="Columns that identify rows; never features.")]
# --delimiter, --decimal, --encoding, --missing, --day-first.
Text = Annotated[Dialect, arg(name="")]
NoHeader = Annotated[
    bool, arg(help="The first line of text files is a row: no line names columns.")
]


def selection(command: Any) -> Any:
    """Which columns are labels and features, by a command's flags."""
    from aejax.data.rows import Selection

    return Selection(
        label_column=command.label_column,
        normal_label=command.normal_label,
        drop_columns=getattr(command, "drop_columns", ()),
        key_columns=getattr(command, "key", ()),
        header=not command.no_header,
        dialect=command.text,
    )


class StopOnSigterm:
    """Within this context SIGTERM makes the given function return True instead of killing."""

    def __enter__(self) -> Callable[[], bool]:
        self.asked = False
        self.before = signal.signal(signal.SIGTERM, self._ask)
        return lambda: self.asked

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _ask(self, *_: object) -> None:
        self.asked = True
