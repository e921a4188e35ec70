"""Blocks of a series, scored: windows over a block's rows and those around it, points out."""

from __future__ import annotations

import dataclasses

import numpy as np

from aejax.data.blocks import Block
from aejax.data.offsets import centred
from aejax.data.rows import finite_rows
from aejax.data.series import BESIDE_BAD, why_no_score
from aejax.data.series_columns import cells_of, files_of, followed, points_of
from aejax.detection.detector import Detector
from aejax.detection.rows import as_stored
from aejax.detection.series import channel_errors, score_points
from aejax.scoring.tabulation import NO_WINDOW, Refusal, Scored


def score_block(detector: Detector, block: Block, *, top_features: int, batch_size: int) -> Scored:
    """The scores of a block's points, and the channels that make them up where these are asked.

    Args:
        detector: of windows.
        block: rows as they are in files, with those around them.
        top_features: how many channels to name for every point.
        batch_size: windows in a compiled batch.
    """
    series = detector.schema.series
    assert series is not None
    around = [one for one in (block.before, block, block.after) if one is not None]
    first = 0 if block.before is None else len(block.before.x)
    own = slice(first, first + len(block.x))
    x = np.concatenate([as_stored(centred(one.x, series.points), series.points) for one in around])
    starts = np.cumsum([0, *(len(one.x) for one in around)])
    bad = {
        int(start) + row: why
        for start, one in zip(starts[:-1], around, strict=True)
        for row, why in one.bad.items()
    }
    cells = cells_of(around, series.columns)
    when = followed(cells, series.window, series.clock, len(x), files_of(around))
    points = points_of(x, when, series.longest_step, bad)
    scores = score_points(detector, points, batch_size=batch_size)
    refused: dict[int, Refusal] = {}
    unreadable = ~finite_rows(x)
    for row, why in why_no_score(points, scores, series).items():
        # Numbers that are missing say so themselves, as those of any row do.
        if own.start <= row < own.stop and not unreadable[row] and row not in bad:
            kind = getattr(why, "kind", why)
            of_window = kind if why is BESIDE_BAD else NO_WINDOW
            refused[row - first] = Refusal(
                of_window if points.usable[row] else "time not readable", kind, str(why)
            )
    features = errors = None
    if top_features:
        found = channel_errors(detector, points, batch_size=batch_size)[own]
        usual = detector.usual_channel_errors
        beside = found if usual is None else found / usual
        features = np.argsort(-beside, axis=1, kind="stable")[:, :top_features].astype(np.int32)
        errors = np.take_along_axis(found, features, axis=1)
    return Scored(
        block=dataclasses.replace(block, x=x[own], before=None, after=None),
        scores=scores[own],
        features=features,
        errors=errors,
        batch_limit=detector.batch_limit.rows,
        refused=refused,
    )
