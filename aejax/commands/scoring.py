"""The commands that score, judge scores, and look into folders."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.commands import shared
from aejax.config import Dialect

logger = logging.getLogger("aejax")

# Of each kind on the screen; the summary has more, and _groups.csv and _files.csv all.
MOST_SHOWN = 10
# What is shown in front, in lines of its own.
ADDED = ("added", "alarms", "runs", "newest_files")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Score a file of any size into Parquet parts; the same command continues a stopped job."""

    run_folder: Positional[
        Annotated[Path, arg(name="run", help="Folder of a run, a detector or an export.")]
    ]
    input: Annotated[
        tuple[str, ...],
        arg(
            help="Files, folders or patterns of rows, or a data set as mnist:test; "
            "columns are matched by name."
        ),
    ]
    out: shared.Out
    group_column: Annotated[
        str | None,
        arg(help="Of a detector of groups: the column of groups. Default: as in training."),
    ] = None
    key: Annotated[shared.Names, arg(help="Columns to carry through to the scores.")] = ()
    top_features: Annotated[int, arg(help="How many features to name for every row.")] = 0
    top: Annotated[
        int, arg(help="How many of the most anomalous rows to write to _top/rows.parquet.")
    ] = 0
    batch_size: Annotated[
        int | None, arg(help="Rows in a compiled batch. Default: by the width of a row.")
    ] = None
    devices: shared.Devices = None
    part_rows: Annotated[
        int | None, arg(help="Input rows in one output part. Default: by the width of a row.")
    ] = None
    on_bad_row: Annotated[
        Literal["null", "error"],
        arg(help="Give a row with a missing or unreadable value a null score, or stop at it."),
    ] = "null"
    merge_gap: Annotated[
        int, arg(help="Of a series: most rows without a flag between two flags of an event.")
    ] = 0
    least_length: Annotated[
        int, arg(help="Of a series: least rows of an event, from the first flag to the last.")
    ] = 1
    restart: Annotated[bool, arg(help="Start over, deleting the scores that are there.")] = False
    append: Annotated[bool, arg(help="Score only the files that are new to OUT.")] = False
    fail_on_drift: Annotated[
        bool,
        arg(help="End with exit code 3 at any alarm: rows that this run added have drifted."),
    ] = False
    fail_on_flagged: Annotated[
        float | None,
        arg(help="End with exit code 3 if more than this share of the added rows is flagged."),
    ] = None
    no_header: shared.NoHeader = False
    text: shared.Text = Dialect()
    engine: Annotated[
        Literal["local", "ray"],
        arg(help="Score in this process, or part by part on Ray (needs aejax[ray])."),
    ] = "local"
    ray_address: Annotated[
        str | None, arg(help="Address of a Ray cluster, or auto. Default: Ray on this machine.")
    ] = None
    ray_actors: Annotated[
        int | None, arg(help="Processes that score on Ray. Default: one a GPU, or one a node.")
    ] = None
    progress: Annotated[
        Literal["bar", "json"], arg(help="On stderr: a bar, or lines of JSON for schedulers.")
    ] = "bar"
    quiet: shared.Quiet = False
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Score the files."""
        from aejax.config import InputError
        from aejax.data.rows import Selection
        from aejax.detection.drift import LEAST_ROWS_FOR_DRIFT
        from aejax.detection.loading import load
        from aejax.scoring.stream import score_files

        scorer = load(self.run_folder)
        self._check_limits(scorer)
        inputs = self.input[0] if len(self.input) == 1 else self.input
        chosen = Selection(key_columns=self.key, header=not self.no_header, dialect=self.text)
        if self.engine == "local" and (self.ray_address or self.ray_actors):
            raise InputError("--ray-address or --ray-actors is given; allowed: with --engine ray")
        if self.engine == "ray" and "-" in self.input:
            raise InputError("--input is -; allowed with --engine ray: files that every node sees")
        engine = None
        if self.engine == "ray":
            from aejax.scoring.ray import RayEngine

            engine = RayEngine(
                run_folder=self.run_folder.absolute(),
                inputs=inputs,
                selection=chosen,
                address=self.ray_address,
                actors=self.ray_actors,
            )
        with shared.StopOnSigterm() as should_stop:
            result = score_files(
                scorer,
                inputs,
                self.out,
                engine=engine,
                selection=chosen,
                group_column=self.group_column,
                top_features=self.top_features,
                top=self.top,
                batch_size=self.batch_size,
                devices=self.devices,
                part_rows=self.part_rows,
                on_bad_row=self.on_bad_row,
                merge_gap=self.merge_gap,
                least_length=self.least_length,
                restart=self.restart,
                append=self.append,
                progress="none" if self.quiet else self.progress,
                should_stop=should_stop,
            )
        scored = result["added"]["rows"] - result["added"]["bad_rows"]
        if self.fail_on_drift and 0 < scored < LEAST_ROWS_FOR_DRIFT:
            logger.warning(
                "aejax: warning: %d added rows are too few to tell drift by; allowed: at least %d",
                scored,
                LEAST_ROWS_FOR_DRIFT,
            )
        return result

    def _check_limits(self, scorer: Any) -> None:
        """Refuse limits that nothing could ever exceed, before hours of work."""
        from aejax.config import InputError
        from aejax.scoring.tally import gives_flags, watches_drift

        limit = self.fail_on_flagged
        if limit is not None and not 0 <= limit <= 1:
            raise InputError(f"--fail-on-flagged is {limit}; allowed: a share, 0 to 1")
        if limit is not None and not gives_flags(scorer):
            raise InputError(
                f"--fail-on-flagged is {limit} but {self.run_folder} has no threshold; "
                "allowed: with one (aejax calibrate)"
            )
        if self.fail_on_drift and not watches_drift(scorer):
            raise InputError(
                f"--fail-on-drift is given but {self.run_folder} knows no scores or values of "
                "normal rows to measure drift by; allowed: after aejax calibrate with 100 rows"
            )

    def failing(self, result: dict[str, Any]) -> str | None:
        """What makes a job that is done end with another exit code, in words, if anything."""
        added, limit = result["added"], self.fail_on_flagged
        scored = added["rows"] - added["bad_rows"]
        if (self.fail_on_drift or limit is not None) and not scored:
            return f"none of the {added['rows']:,} added rows has a score"
        if limit is not None and added["flagged_rate"] > limit:
            return f"{added['flagged_rate']:.4g} of the added rows are flagged; allowed: {limit:g}"
        if self.fail_on_drift and (alarms := result.get("alarms")):
            return f"the added rows raised an alarm: {alarms[0]}"
        return None

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """Everything but the histogram, a line each; what is new comes first."""
        lines = _added_shown(result)
        for name, value in result.items():
            if name in ("histogram", *ADDED) or value in (None, {}, []):
                continue
            if name == "worst_events":
                lines += _events_shown(value)
                continue
            if name in ("most_flagged_groups", "unknown_groups"):
                lines += _groups_shown(name, value)
                continue
            if isinstance(value, dict):
                value = ", ".join(f"{key}: {number:.6g}" for key, number in value.items())
            elif isinstance(value, float):
                value = f"{value:.6g}"
            lines.append(f"{name}: {value}")
        return "\n".join(lines)


def _added_shown(result: dict[str, Any]) -> list[str]:
    """What the newest run added, its alarms, and the newest files and runs, a line each."""
    runs, files = result["runs"], result["newest_files"]
    lines = []
    if len(runs) > 1:
        new = "added" if result["resumed_at_row"] < result["rows"] else "nothing is new; added last"
        lines.append(f"{new}: {_counted(runs[0])}")
    lines += [f"alarm: {alarm}" for alarm in result.get("alarms", ())]
    if len(files) > 1:
        lines.append("files, the newest first:")
        lines += [f"  {one['file']}: {_counted(one)}" for one in files[:MOST_SHOWN]]
    if len(runs) > 1:
        lines.append("runs, the newest first:")
        lines += [f"  {one['run']}: {_counted(one)}" for one in runs[:MOST_SHOWN]]
        lines.append("all runs together:")
    return lines


def _counted(one: dict[str, Any]) -> str:
    """Rows, flags and drift of a file or a run, in words."""
    text = f"{one['rows']:,} rows"
    if "files" in one:
        text += f" of {one['files']:,} file{'s' if one['files'] > 1 else ''}"
    if one["flagged_rate"] is not None:
        text += f", {one['flagged']:,} flagged ({one['flagged_rate']:.1%})"
    if lost := one["rows"] - one.get("scored", one["rows"]):
        text += f", {lost:,} without a score"
    if (index := one.get("population_stability")) is not None:
        text += f", population stability index {index:.2f}"
    if one.get("drifted") or one.get("alarms"):
        text += ", drifted" if one.get("drifted") else ", with alarms"
    return text


def _events_shown(worst: list[dict[str, Any]]) -> list[str]:
    """The events with the highest scores, a line each."""
    lines = []
    for event in worst[:MOST_SHOWN]:
        series = f"{event['series']}, " if "series" in event else ""
        when = f"rows {event['first_row']:,} to {event['last_row']:,}"
        if "start" in event:
            when = f"{event['start']} to {event['end']}"
        channels = f", {event['channels']}" if event["channels"] else ""
        lines.append(f"  {series}{when}: score {event['score']:.4g}{channels}")
    return ["worst events:", *lines]


def _groups_shown(name: str, value: Any) -> list[str]:
    """The groups with most flags, or those that have no detector, a line each."""
    if name == "most_flagged_groups":
        lines = [
            f"  {one['group']}: {one['flagged']:,} of {one['rows']:,} ({one['share']:.1%})"
            for one in value[:MOST_SHOWN]
        ]
        return ["most flagged groups:", *lines]
    least = "at least " if value["at_least"] else ""
    lines = [f"groups without a detector: {least}{value['groups']:,}, {value['rows']:,} rows"]
    lines += [f"  {one['group']}: {one['rows']:,}" for one in value["most"][:MOST_SHOWN]]
    if value["rows_without_group"]:
        lines.append(f"rows without a group: {value['rows_without_group']:,}")
    return lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge scores against labels: AUROC, average precision, F1, confusion, with intervals."""

    scores: Positional[Annotated[Path, arg(help="Folder that `aejax score` wrote.")]]
    labels: Annotated[
        tuple[str, ...],
        arg(
            help="Files with the label column. Rows are joined by the keys that scores carry and "
            "the files have too; without any, by position. Of a series also intervals: columns "
            "start and end."
        ),
    ] = ()
    label_column: Annotated[str, arg(help="Column of labels, there or among the carried keys.")] = (
        "label"
    )
    normal_label: shared.NormalLabel = None
    threshold: Annotated[
        float | None, arg(help="Default: the one that the rows were flagged by.")
    ] = None
    buffer: Annotated[
        int | None,
        arg(
            help="Of a series: rows on both sides of an anomaly that count in part, for VUS. "
            "Default: the period, or the window."
        ),
    ] = None
    merge_gap: Annotated[
        int, arg(help="Of a series: most rows without a flag between two flags of an event.")
    ] = 0
    report: Annotated[
        Path | None, arg(help="Folder for a report: curves, confusion, the worst rows.")
    ] = None
    no_header: shared.NoHeader = False
    text: shared.Text = Dialect()
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Read scores and labels and compare them."""
        from aejax.scoring.evaluation import judged, labelled

        labels = self.labels[0] if len(self.labels) == 1 else self.labels
        rows = labelled(
            self.scores,
            labels or None,
            selection=shared.selection(self),
            threshold=self.threshold,
            buffer=self.buffer,
            merge_gap=self.merge_gap,
        )
        result = judged(rows)
        if self.report is not None:
            from aejax.reporting.scores_page import write_scores_report

            page = write_scores_report(self.scores, self.report, labels=rows)
            result["report"] = str(page)
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what a run, a detector, an export or a scores folder holds, and what made it."""

    path: Positional[Annotated[Path, arg(help="Its folder.")]]
    shapes: Annotated[bool, arg(help="Also the shape and type of every array.")] = False
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Look into the folder."""
        from aejax.scoring.inspection import inspect_folder

        return inspect_folder(self.path, shapes=self.shapes)
