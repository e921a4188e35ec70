"""A line on stderr that says how far something is."""

from __future__ import annotations

import shutil
import sys
import time

SECONDS_BETWEEN = {True: 0.1, False: 10.0}  # On a terminal, and in a log file.


class Bar:
    """Shows how much is done, how fast, and when the rest will be, while its block runs.

    Args:
        total: of all, or None where only the end tells.
        unit: what is counted.
        done: before.
        shown: whether to write anything.
    """

    def __init__(self, total: int | None, *, unit: str, done: int = 0, shown: bool = True) -> None:
        self.total, self.unit, self.done, self.shown = total, unit, done, shown
        self.before, self.after = "", ""
        self._first, self._width = done, 0
        self._pause = SECONDS_BETWEEN[sys.stderr.isatty()]
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, more: int) -> None:
        """Count what is done; draws where that was some time ago."""
        self.done += more
        if self.shown and time.monotonic() - self._drawn >= self._pause:
            self._draw("")

    def close(self) -> None:
        """Draw a last time."""
        if self.shown:
            self._draw("\n")

    def _draw(self, end: str) -> None:
        self._drawn = time.monotonic()
        seconds = self._drawn - self._started
        rate = (self.done - self._first) / max(seconds, 1e-9)
        parts = [f"{self.before}:"] if self.before else []
        if self.total is None:
            parts += [short(self.done), self.unit]
        else:
            share = 100 * self.done // max(self.total, 1)
            parts += [f"{share}%", f"{short(self.done)}/{short(self.total)}", self.unit]
        times = clock(seconds)
        if self.total is not None and rate:
            times += f"<{clock((self.total - self.done) / rate)}"
        parts += [f"[{times}, {short(rate)}/s]", self.after]
        line = " ".join(filter(None, parts))[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + line.ljust(self._width) + end)
        sys.stderr.flush()
        self._width = len(line)


def short(number: float) -> str:
    """A number in three digits: 12.3k, 4.56M.

    Example:
        >>> short(7), short(1234), short(999_999_999)
        ('7', '1.23k', '1G')
    """
    for suffix in ("", "k", "M"):
        if abs(number) < 999.5:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}G"


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any.

    Example:
        >>> clock(75), clock(3675)
        ('01:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
