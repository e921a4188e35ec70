"""HTML built from elements, so that every piece of text is escaped by construction."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_VOID = frozenset({"br", "col", "hr", "img", "meta"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def clean(text: object) -> str:
    """The text without control characters, which neither HTML nor SVG can hold."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """One HTML element.

    Args:
        name: of the tag.
        children: in order; `Markup` is taken as it is, None is left out, all else is escaped.
        attributes: `class_` stands for class, other underscores for hyphens; None leaves one out.

    Example:
        >>> element("p", "1 < 2", class_="fact")
        '<p class="fact">1 &lt; 2</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{written}>"
    return Markup(start if name in _VOID else f"{start}{join(children)}</{name}>")


def join(children: Iterable[object], between: str = "") -> Markup:
    """Children one after another, escaped unless they are `Markup`."""
    return Markup(
        between.join(
            child if isinstance(child, Markup) else html.escape(clean(child))
            for child in children
            if child is not None
        )
    )


def with_lede(lede: str, *parts: object) -> Markup:
    """A section's content below the sentences that say how to read it."""
    return join((element("p", lede, class_="lede"), *parts))


def table(
    caption: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    class_: str | None = None,
) -> Markup:
    """A table whose first column heads its rows; it scrolls sideways where the page is narrow."""
    heads = join(element("th", cell, scope="col") for cell in head)
    body = join(
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in rows
    )
    parts = (
        element("caption", caption),
        element("thead", element("tr", heads)) if head else None,
        element("tbody", body),
    )
    return element("div", element("table", *parts, class_=class_), class_="scroll")


def number(value: object) -> str:
    """A value as a person reads it: thousands separated, four digits, words as they are."""
    if value is None:
        return "\N{EN DASH}"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return ", ".join(map(number, value)) if isinstance(value, (list, tuple)) else str(value)
    real = float(value)
    if real == int(real) if abs(real) < 1e15 else False:
        return f"{int(real):,}".replace("-", "\N{MINUS SIGN}")
    if 1000 <= abs(real) < 1e9:
        return f"{real:,.0f}".replace("-", "\N{MINUS SIGN}")
    return f"{real:.4g}".replace("-", "\N{MINUS SIGN}")


def fixed(value: float, digits: int = 4) -> str:
    """A number with so many digits behind the point; what rounds to zero has no sign."""
    text = f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("-")


def percent(part: float) -> str:
    """A share in [0, 1] in per cent, never rounded to all or none unless it is."""
    if part in (0.0, 1.0):
        return f"{part:.0%}"
    digits = 1 if 0.001 <= part <= 0.999 else 3
    shown = f"{100 * part:.{digits}f}"
    if float(shown) in (0.0, 100.0):
        return "below 0.001%" if part < 0.5 else "above 99.999%"
    return f"{shown}%"


def shorten(text: str, length: int) -> str:
    """The text, cut in the middle where it is longer than `length` characters."""
    text = clean(text)
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def readable(key: str) -> str:
    """A key as words, as in "average_precision" -> "Average precision"."""
    words = [_NAMES.get(word, word) for word in str(key).replace("_", " ").split()]
    return " ".join([word[:1].upper() + word[1:] for word in words[:1]] + words[1:])


_NAMES = {
    "auroc": "AUROC",
    "elbo": "ELBO",
    "f1": "F1",
    "psnr": "PSNR",
    "roc": "ROC",
    "ssim": "SSIM",
}


def big_figure(name: str, value: str, note: str) -> Markup:
    """A figure that a page begins with: its name, the value in large type, and a note."""
    return element(
        "div",
        element("dt", name),
        element("dd", value, class_="big"),
        element("dd", note, class_="small"),
    )
