"""How the training of many groups went, in as many numbers whether they are ten or ten thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_EPOCHS = 200
LOSSES = ("loss", "validation_loss")


def unit_of(history: Sequence[Mapping[str, Any]]) -> str:
    """What a training is counted in: "step", where its history says, or "epoch"."""
    return "step" if history and "step" in history[0] else "epoch"


def spread_of_losses(
    histories: Sequence[Sequence[Mapping[str, Any]]], most: int = MOST_EPOCHS
) -> list[dict[str, Any]]:
    """Quantiles over groups of their losses in every epoch.

    A group that stopped early counts with its last losses in the epochs after that; otherwise
    the later quantiles would be those of the groups that took longest.

    Args:
        histories: of every group, as `TrainedMember.history`.
        most: epochs to keep, evenly spread, the first and the last among them.

    Returns:
        A dict an epoch: "epoch"; "step", the last one in it, where steps are counted; "groups",
        how many still trained; and of "loss" and "validation_loss", where there are any, the
        quantiles `QUANTILES`.
    """
    histories = [history for history in histories if history]
    if not histories:
        return []
    lengths = np.array([len(history) for history in histories])
    last = int(lengths.max())
    # Epochs after a group's last one take its last.
    places = np.minimum(np.arange(last), lengths[:, None] - 1)
    losses = {}
    for name in LOSSES:
        if all(name in history[0] for history in histories):
            found = np.full((len(histories), last), np.nan)
            for at, history in enumerate(histories):
                found[at, : len(history)] = [row[name] for row in history]
            losses[name] = np.quantile(np.take_along_axis(found, places, axis=1), QUANTILES, axis=0)
    longest = histories[int(lengths.argmax())]
    kept = np.unique(np.linspace(0, last - 1, min(last, most)).round().astype(int))
    return [
        {
            "epoch": int(epoch) + 1,
            **({"step": longest[epoch]["step"]} if "step" in longest[epoch] else {}),
            "groups": int((lengths > epoch).sum()),
            **{name: quantiles[:, epoch].tolist() for name, quantiles in losses.items()},
        }
        for epoch in kept
    ]
