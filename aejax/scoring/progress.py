"""How far a job is: a bar for people, lines of JSON for schedulers."""

from __future__ import annotations

import json
import sys
import time
from typing import Literal

from aejax.training.bar import Bar

ProgressKind = Literal["bar", "json", "none"]
SECONDS_BETWEEN_LINES = 1.0


class Progress:
    """Shows progress on stderr while its block runs.

    Args:
        kind: "bar"; "json", at most one line a second and one at the end: rows, total (null
            where only reading tells), rows_per_second, seconds_left, bad_rows; or "none".
        rows: done before.
        total: rows in all, or None.
    """

    def __init__(self, kind: ProgressKind, rows: int, total: int | None) -> None:
        self.kind, self.rows, self.total = kind, rows, total
        self.bad = 0
        self.first, self.started, self.shown = rows, time.monotonic(), 0.0
        self.bar = Bar(total, unit="rows", done=rows, shown=kind == "bar")

    def __enter__(self) -> Progress:
        return self

    def add(self, rows: int, bad: int) -> None:
        """Count rows that are done."""
        self.rows, self.bad = self.rows + rows, self.bad + bad
        if bad:
            self.bar.after = f"bad_rows={self.bad}"
        self.bar.update(rows)
        if time.monotonic() - self.shown >= SECONDS_BETWEEN_LINES:
            self._line("progress")

    def __exit__(self, kind: object, *_: object) -> None:
        self.bar.close()
        self._line("stopped" if kind else "scored")

    def _line(self, event: str) -> None:
        if self.kind != "json":
            return
        self.shown = time.monotonic()
        rate = (self.rows - self.first) / max(self.shown - self.started, 1e-9)
        left = None if self.total is None or not rate else (self.total - self.rows) / rate
        line = {
            "event": event,
            "rows": self.rows,
            "total": self.total,
            "rows_per_second": round(rate, 1),
            "seconds_left": None if left is None else round(left, 1),
            "bad_rows": self.bad,
        }
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
