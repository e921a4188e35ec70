"""What `test_settings.py` runs under the JAX settings of a person's program: all that computes.

python settings_program.py SETTINGS OUT [OUT OF ANOTHER RUN]
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet

import aejax
from aejax.estimator import AutoEncoder
from tests.plain import plain_config

OUT = Path(sys.argv[2])
RANDOM = np.random.default_rng(9)
X = RANDOM.normal(size=(300, 6)) @ RANDOM.normal(size=(6, 6))
GROUPS = np.arange(300) % 3
SMALL = aejax.Dense(hidden=(8, 3), batch_norm=True, dropout=0.1)
SHORT = aejax.Train(epochs=1, batch_size=64)
# Noise, dropout, a schedule, clipping and early stopping: all that draws or counts.
EVERYTHING = aejax.Train(
    epochs=3,
    batch_size=64,
    noise=0.1,
    hide=0.1,
    schedule="cosine",
    clip_norm=1.0,
    patience=2,
    feed="stream",
)


def detectors() -> dict[str, tuple[aejax.Detector, Any]]:
    """Detectors of every kind, with rows that they score."""
    a, c = X[:, 0].tolist(), np.where(X[:, 1] > 0, "x", "y").tolist()
    a[::7], c[::5] = [None] * len(a[::7]), [None] * len(c[::5])
    cells = pa.table({"a": a, "b": X[:, 2], "c": c})
    words = RANDOM.integers(0, 6, (300, 5))

    def settings(**changed: Any) -> aejax.Config:
        return plain_config(**{"model": SMALL, "train": SHORT} | changed)

    ranked = settings(scale=aejax.Scale(kind="quantile"))
    mixed = settings(columns=aejax.Columns(kinds="mixed"))
    sampled = settings(
        model=aejax.Variational(network=aejax.Dense(hidden=(8,), output="sigmoid"), latent=2),
        scale=aejax.Scale(kind="min-max"),
        score="negative-elbo",
    )
    classes = settings(model=aejax.Classifier(network=aejax.Dense(hidden=(4,)), classes=2))
    context = settings(
        model=aejax.Context(vocabulary=6, window=2, negatives=2), scale=aejax.Scale(kind="none")
    )
    return {
        "dense": (aejax.fit(settings(train=EVERYTHING), X), X),
        "neighbours": (aejax.fit(settings(score="error-and-neighbours"), X), X),
        "mixed": (aejax.fit(mixed, cells), cells),
        "variational": (aejax.fit(sampled, X), X),
        "classifier": (aejax.fit(classes, X, labels=(X[:, 0] > 1).astype(int)), X),
        "context": (aejax.fit(context, words), words),
        "ensemble": (aejax.fit(ranked, X, members=2, combine="rank"), X),
    }


def scored_by_export(detector: aejax.Detector) -> dict[str, np.ndarray]:
    """What exports score, read by the package, by the scorer that they hold, by ONNX."""
    x = X.astype(np.float32)
    aejax.export(detector, OUT / "export")
    spec = importlib.util.spec_from_file_location("scorer", OUT / "export" / "scorer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {"exported": aejax.load(OUT / "export").score(x)}
    # It uses JAX alone: what refuses transfers and jit is left to the program that it is part of.
    with jax.disable_jit(False), jax.transfer_guard("allow"):
        found["scorer.py"] = module.Scorer(OUT / "export")(x)
    aejax.export(detector, OUT / "onnx", formats="onnx")
    return found


def main() -> None:
    settings = json.loads(sys.argv[1])
    for setting, changed in settings.items():
        jax.config.update(setting, changed)
    if settings:
        # What else belongs to the whole program, in a training script of one's own.
        jax.set_mesh(jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,)))
    found: dict[str, Any] = {}
    for name, (detector, x) in detectors().items():
        found[name] = detector.score(x)
        found[f"{name}, threshold"] = np.float64(detector.threshold.value)
        for at, leaf in enumerate(jax.tree.leaves((detector.scaler, detector.variables))):
            found[f"{name}, array {at}"] = np.asarray(leaf)
        if name not in ("classifier", "context"):
            reasons = [reason for of_row in detector.explain(x[:4], top=2) for reason in of_row]
            found[f"{name}, reasons"] = np.array([reason.feature for reason in reasons])
            found[f"{name}, errors"] = np.array([reason.error for reason in reasons])
            found[f"{name}, inside"] = detector.reconstruct(x)[1]
        detector.save(OUT / name)
        found[f"{name}, loaded"] = aejax.load(OUT / name).score(x)
        if len(sys.argv) > 3:
            other = aejax.load(Path(sys.argv[3]) / name)
            np.testing.assert_array_equal(other.score(x), found[name], err_msg=name)
        if name == "dense":
            found |= scored_by_export(detector)
    # A row with a missing number has no score, and that is no error.
    holes = X[:10].astype(np.float32)
    holes[3, 2] = np.nan
    np.save(OUT / "holes.npy", holes)
    aejax.score_files(aejax.load(OUT / "dense"), OUT / "holes.npy", OUT / "scores")
    found["files"] = pa.parquet.read_table(OUT / "scores")["score"].to_numpy()
    groups = aejax.fit(plain_config(model=SMALL, train=EVERYTHING), X, groups=GROUPS)
    groups.save(OUT / "groups")
    found["groups"] = aejax.load(OUT / "groups").score(X, groups=GROUPS)
    found["estimator"] = AutoEncoder(steps=20).fit(X).score_samples(X)
    (OUT / "space.toml").write_text("train.epochs = 1\ntrain.noise = {low = 0.01, high = 0.1}\n")
    space = aejax.read_space(OUT / "space.toml", plain_config(model=SMALL))
    tuned = aejax.tune(space, X, configurations=2, folds=2)
    found["tuning"] = np.array([trial.mean for trial in tuned.trials])
    np.savez(OUT / "found.npz", **found)


main()
