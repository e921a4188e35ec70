"""The groups that stand out, so few that a page holds them however many groups there are."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from aejax.config.rules import share_above
from aejax.detection.threshold import Threshold
from aejax.reporting.group_plots import in_percent
from aejax.reporting.groups_contents import Floats, GroupsReport
from aejax.reporting.markup import Markup, element, join, number, percent, shorten, table

MOST_SHOWN, MOST_OF_A_KIND, MOST_LEFT_OUT = 50, 12, 25
MOST_LETTERS = 80
_DIGITS = re.compile(r"\d+")
# Above a median by so many quartile distances, a number stands out (Tukey's outer fence is 3).
FENCE = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notable:
    """A group that stands out.

    Attributes:
        at: its position among those that have a detector.
        why: in a few words each.
    """

    at: int
    why: tuple[str, ...]


def notable_groups(report: GroupsReport) -> list[Notable]:
    """The groups that a person should look at first, at most `MOST_SHOWN`.

    Those with alarms come first, then those beyond the outer fence of the others in
    how badly they fit, in what is flagged of their normal rows, or in their threshold, and
    those whose threshold rests on fewest rows.
    """
    reasons: dict[int, list[str]] = {}

    def add(order: list[int], words: str) -> None:
        for at in order[:MOST_OF_A_KIND]:
            if at in reasons or len(reasons) < MOST_SHOWN:
                reasons.setdefault(at, []).append(
                    words.format(rows=report.thresholds.each[at].rows)
                )

    groups, shares = report.groups, report.shares
    alarmed = [at for at, group in enumerate(groups) if group.alarms]
    for kind in dict.fromkeys(alarm.kind for at in alarmed for alarm in groups[at].alarms):
        sizes = {
            at: alarm.size for at in alarmed for alarm in groups[at].alarms if alarm.kind == kind
        }
        add(_falling(np.array([sizes.get(at, np.nan) for at in range(len(groups))])), kind)
    left = report.numbers("error_left")
    add(_beyond(left), "worst fit")
    if not np.isfinite(left).any():
        add(_beyond(report.numbers("loss")), "worst fit")
    add(_beyond(shares), "most flagged")
    add(_beyond(report.thresholds.values), "highest threshold")
    calibrated = -report.thresholds.rows.astype(np.float64)
    few = [
        at for at in _falling(calibrated) if -calibrated[at] < _least(report.thresholds.each[at])
    ]
    # What most groups have in common makes none stand out.
    add(few if len(few) <= len(groups) / 2 else [], "threshold rests on {rows:,} rows")
    return [Notable(at=at, why=tuple(why)) for at, why in reasons.items()]


def _least(threshold: Threshold) -> float:
    """Rows below which a quantile as far out as the rule's is the largest score, or beyond."""
    share = share_above(threshold.rule)
    return 1 / share if share else 10.0


def _beyond(values: Floats) -> list[int]:
    """Positions of numbers above the outer fence, the largest first."""
    known = values[np.isfinite(values)]
    if len(known) < 4:
        return []
    quarter, three = np.quantile(known, [0.25, 0.75])
    fence = three + FENCE * (three - quarter)
    return [at for at in _falling(values) if values[at] > fence]


def _falling(values: Floats) -> list[int]:
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    return [at for at in order if np.isfinite(values[at])]


def notable_table(report: GroupsReport, found: list[Notable]) -> Markup:
    """The groups that stand out, with a field that finds one by its name."""
    shares, areas = report.shares, report.areas
    left = report.numbers("error_left")
    known = np.isfinite(left).any()
    head = ["Group", "Why it stands out", "Rows", "Threshold", "Flagged"]
    head += ["Error left"] if known else []
    head += ["Validation loss"]
    head += ["AUROC"] if areas else []
    lines = []
    for one in found:
        group = report.groups[one.at]
        alarms = [alarm.text for alarm in group.alarms]
        cells: list[object] = [
            element("span", shorten(group.name, MOST_LETTERS)),
            element("span", "; ".join(one.why), title=". ".join(alarms) or None),
            number(group.rows),
            number(report.thresholds.each[one.at].value),
            number(None) if np.isnan(shares[one.at]) else percent(float(shares[one.at])),
        ]
        cells += [in_percent(float(left[one.at]))] if known else []
        cells += [number(group.validation_loss)]
        cells += [f"{areas[group.name]:.3f}" if group.name in areas else number(None)] * bool(areas)
        lines.append(cells)
    caption = f"{len(found):,} of {len(report.groups):,} groups"
    search = element(
        "label",
        "Find by name ",
        element("input", type="search", id="groups-search", autocomplete="off"),
        element("span", "", id="groups-found"),
        class_="search",
    )
    return join((search, element("div", table(caption, head, lines), id="groups-table"), _SCRIPT))


def left_out_table(skipped: Mapping[str, str]) -> Markup:
    """Groups that have no detector, and why; those with the rarest reasons first."""
    reasons = {name: _DIGITS.sub("0", why) for name, why in skipped.items()}
    often = Counter(reasons.values())
    order = sorted(skipped, key=lambda name: (often[reasons[name]], name))
    lines = [(shorten(name, MOST_LETTERS), skipped[name]) for name in order[:MOST_LEFT_OUT]]
    if len(skipped) > MOST_LEFT_OUT:
        lines.append((f"and {len(skipped) - MOST_LEFT_OUT:,} more", ""))
    return table(
        f"{len(skipped):,} groups without a detector", ("Group", "Why"), lines, class_="words"
    )


_SCRIPT = Markup("""<script>
(() => {
  const field = document.getElementById("groups-search");
  const counted = document.getElementById("groups-found");
  const lines = [...document.querySelectorAll("#groups-table tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let found = 0;
    for (const line of lines) {
      const name = line.cells[0].textContent.toLowerCase();
      line.hidden = !name.includes(wanted);
      found += !line.hidden;
    }
    const none = "none of these; the table of all groups may have it";
    counted.textContent = !wanted ? "" : found ? found + " of " + lines.length + " shown" : none;
  });
})();
</script>""")
