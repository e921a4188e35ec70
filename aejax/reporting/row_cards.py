"""The most and the least anomalous rows on the page: a card for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aejax.reporting import rows
from aejax.reporting.markup import Markup, element, join, number
from aejax.reporting.sections import Section
from aejax.reporting.style import to_png, to_svg

if TYPE_CHECKING:
    from aejax.reporting.contents import Examples, Report


def rows_sections(report: Report) -> list[Section]:
    """The most and the least anomalous rows, drawn on the same scales."""
    scales = rows.shared_scales(report.schema, report.most, report.least)
    sections = []
    for examples, anchor, heading in (
        (report.most, "most_anomalous", "Most anomalous rows"),
        (report.least, "least_anomalous", "Least anomalous rows"),
    ):
        if examples is None or not len(examples.row):
            continue
        cards = (
            row_card(report, examples, index, scales, f"{anchor}-{index}")
            for index in range(len(examples.row))
        )
        counted = _COUNTED[bool(report.places)]
        lede = element("p", f"{_HOW_TO_READ[report.schema.kind]} {counted}", class_="lede")
        drawn = rows.rows_figure(examples, report.schema, scales, report.threshold, report.places)
        sections.append(
            Section(
                anchor=anchor,
                heading=heading,
                content=join(
                    (lede, _KEYS[report.schema.kind], element("div", *cards, class_="rows"))
                ),
                files={anchor: to_png(drawn, heading)},
            )
        )
    return sections


_HOW_TO_READ = {
    "image": "Inputs and reconstructions share one scale, errors another: brighter is larger.",
    "series": "The band between input and reconstruction is the error. Rows of one channel share "
    "one scale; of several the worst is drawn, on its own.",
    "table": "The features that make up the score, most first: in their own units what was found "
    "and what the model expected in its place. Lengths are as the model compares them.",
}
_COUNTED = {
    True: "Rows are counted from 0 in their file, as aejax explain --row takes them.",
    False: "Rows are counted from 0 among those that were judged.",
}


def _key(*entries: tuple[str, str]) -> Markup:
    """What the colours of the rows stand for, once for all of them."""
    return element(
        "p", *(element("span", word, class_=f"key {class_}") for word, class_ in entries)
    )


_KEYS = {
    "image": None,
    "series": _key(("input", "ink"), ("reconstruction", "expected"), ("error", "error")),
    "table": _key(
        ("found", "ink"), ("expected", "expected"), ("share of the row's error", "error")
    ),
}


def row_card(
    report: Report, examples: Examples, index: int, scales: rows.Scales, name: str
) -> Markup:
    """One row with what is known of it."""
    place, fact, *words = rows.row_facts(examples, index, report.threshold, report.places)
    known = report.places.get(int(examples.row[index]))
    wrong = words in (["anomaly", "not flagged"], ["normal", "flagged"])
    labelled = words[:1] if examples.is_anomaly is not None else []
    kind = " ".join(["tag", *labelled, *(["mistaken"] if wrong else [])])
    tag = element("span", ", ".join(words), class_=kind) if words else None
    drawn = rows.row_figure(examples, index, report.schema, scales)
    if report.threshold is not None and report.threshold > 0:
        times = float(f"{float(examples.score[index]) / report.threshold:.2g}")
        fact += f", {number(times)} times the threshold"
    description = rows.row_description(examples, index, report.schema, place)
    key = element("p", known.key, class_="fact") if known and known.key else None
    caption = (
        element("h3", place[:1].upper() + place[1:]),
        tag,
        key,
        element("p", fact, class_="fact"),
    )
    return element("figure", element("figcaption", *caption), to_svg(drawn, name, description))
