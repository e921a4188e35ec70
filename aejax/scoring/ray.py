"""The same scoring job on Ray Data: parts are the work, actors do it, the driver keeps the journal.

An actor loads the detector once and then scores part after part, each with the code that the
engine in one process uses, so that the parts are the same to the byte. The driver records
parts in their order. Files and the scores folder must be where every node can reach them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aejax.config import InputError
from aejax.config.checks import extra
from aejax.data.files import Input, Rows
from aejax.data.rows import Selection
from aejax.scoring.job import Job, Segment
from aejax.scoring.manifest import Manifest, part_name
from aejax.scoring.ray_actors import PartScorer, Place, RowCounter, Source, identity_of
from aejax.scoring.tally import Tally

# Parts that are given to Ray together: it keeps records of its own for each.
PARTS_AT_ONCE = 1 << 12
# Descriptions of parts are all that goes through Ray's store, and the most anomalous rows.
LOCAL_STORE_BYTES = 128 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Scores a job's parts on Ray.

    Args:
        run_folder: of the detector or export that scores, as every node sees it.
        inputs: what was opened, as every node sees it.
        selection: how it was opened.
        address: of a cluster ("auto" finds the one that this machine belongs to); None starts
            Ray on this machine, and stops it afterwards.
        actors: how many; None has one for every GPU, or one for every node where there is none.
    """

    run_folder: Path
    inputs: Input
    selection: Selection = dataclasses.field(default_factory=Selection)
    address: str | None = None
    actors: int | None = None

    def score_segment(self, job: Job, segment: Segment) -> None:
        """Score the parts that the journal doesn't have."""
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            _start(ray, self.address)
        try:
            self._score(ray, job, segment)
        finally:
            if started:
                ray.shutdown()
        segment.manifest.end(segment.number)

    @property
    def _source(self) -> Source:
        return Source(run_folder=self.run_folder, inputs=self.inputs, selection=self.selection)

    def _score(self, ray: object, job: Job, segment: Segment) -> None:
        manifest = segment.manifest
        settings: dict[str, Any] = {
            "source": self._source,
            "names": segment.names,
            "here": os.getcwd(),
            "identity": identity_of(job.detector, job.group_column),
            "job": {
                field.name: getattr(job, field.name)
                for field in dataclasses.fields(job)
                if field.name not in ("detector", "devices")
            },
            "top": segment.totals.top,
            "out": str(manifest.folder.absolute()),
        }
        how = self._how(ray)
        counts = self._counts(ray, segment.rows, segment.names, how)
        works = _works(manifest, segment.number, np.cumsum(counts, dtype=np.int64), job.part_rows)
        for wave in range(0, len(works), PARTS_AT_ONCE):
            some = works[wave : wave + PARTS_AT_ONCE]
            done: dict[int, dict[str, Any]] = {}
            for result in self._map(ray, PartScorer, some, settings, how):
                done[result["number"]] = result
                # Whatever was finished first: the journal lists parts in the input's order.
                while (number := len(manifest.parts)) in done:
                    next_one = done.pop(number)
                    part = next_one["part"]
                    totals = segment.totals
                    tally = Tally.from_bytes(
                        base64.b64decode(next_one["tally"]), totals.groups, totals.top
                    )
                    segment.record(manifest.folder / part_name(number), part, tally)
                    segment.progress.add(part["rows"], sum(part["bad"].values()))
                segment.stop_if_asked()

    def _counts(self, ray: object, rows: Rows, names: list[str], how: dict[str, Any]) -> list[int]:
        """Rows of every file; those that don't say are counted by the actors."""
        counts = {index: part.rows for index, part in enumerate(rows.parts)}
        silent = [{"file": index} for index, count in counts.items() if count is None]
        if silent:
            settings = {
                "source": self._source,
                "names": names,
                "here": os.getcwd(),
                "schema": rows.schema,
            }
            for result in self._map(ray, RowCounter, silent, settings, how):
                counts[result["file"]] = result["rows"]
        return [int(counts[index] or 0) for index in range(len(rows.parts))]

    def _how(self, ray: Any) -> dict[str, Any]:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        # Ray spreads actors over the nodes before any gets two.
        return {
            "concurrency": self.actors or gpus or nodes,
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        }

    def _map(
        self,
        ray: Any,
        worker: type,
        works: list[dict[str, Any]],
        settings: dict[str, Any],
        how: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        items = [{"work": json.dumps(work)} for work in works]
        # A block of its own for every work, so that it is done when an actor is free for it.
        mapped = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            worker,
            fn_constructor_kwargs=settings,
            batch_size=1,
            **{**how, "concurrency": min(how["concurrency"], len(items))},
        )
        try:
            for row in mapped.iter_rows():
                result = json.loads(row["result"])
                if "error" in result:
                    raise InputError(result["error"])
                yield result
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"Ray stopped: {lines[-1] if lines else type(error).__name__}; "
                "the same command continues"
            ) from error


def _works(
    manifest: Manifest, segment: int, ends: np.ndarray, part_rows: int
) -> list[dict[str, Any]]:
    """The parts that are left: their numbers, and where their rows are."""
    before = [part for part in manifest.parts if part["segment"] == segment]
    first = sum(part["rows"] for part in before)
    return [
        {
            "number": len(manifest.parts) + index,
            **dataclasses.asdict(_place(ends, start, manifest.rows - first)),
        }
        for index, start in enumerate(range(first, int(ends[-1]), part_rows))
    ]


def _place(ends: np.ndarray, start: int, before: int) -> Place:
    """Where the row `start` of files that end behind these rows is.

    Args:
        ends: of every file, the rows in it and in those before it; [files].
        start: a row of them all.
        before: rows of the job that come before these files.
    """
    file = int(np.searchsorted(ends, start, side="right"))
    row = start - (int(ends[file - 1]) if file else 0)
    return Place(file=file, row=row, first_row=before + start)


def _ray() -> Any:
    with extra("ray"):
        import ray
        import ray.data
    return ray


def _start(ray: Any, address: str | None) -> None:
    how: dict[str, Any] = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
    if address is not None:
        how = {"address": address}
    try:
        with warnings.catch_warnings():
            # JAX warns of forks that go on as Python; Ray's become its own programs at once.
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **how)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"ray_address is {address!r}: {' '.join(str(error).split())[:200]}; "
            "allowed: the address of a running cluster, auto, or none to start Ray here"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
