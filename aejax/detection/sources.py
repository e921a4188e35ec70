"""The detector that is meant: itself, one in a fitted estimator, or one in a folder."""

from __future__ import annotations

import os

from aejax.config import InputError
from aejax.detection.detector import Detector
from aejax.detection.loading import load


def as_detector(source: object) -> Detector:
    """The detector of what somebody has at hand.

    Args:
        source: a detector, a fitted estimator of `aejax.estimator`, or the folder of a run, a
            detector or an export.

    Raises:
        InputError: if it is none of these, or not fitted.
    """
    if isinstance(source, Detector):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load(os.fspath(source))
    if isinstance(fitted := getattr(source, "detector_", None), Detector):
        return fitted
    kind, allowed = type(source).__name__, "a detector, a fitted estimator, or a folder"
    if hasattr(source, "steps") and hasattr(source, "named_steps"):
        raise InputError(
            f"{kind} is given; allowed: its last step, pipeline[-1], with rows as the steps before "
            "it make them"
        )
    if hasattr(source, "fit") and hasattr(source, "get_params"):
        raise InputError(f"{kind} has no detector_; allowed: {allowed} (call fit first)")
    raise InputError(f"{kind} is given; allowed: {allowed}")
