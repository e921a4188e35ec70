"""What trained networks say of rows besides scores: reasons, reconstructions, latent values."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from aejax.config import InputError, suggest
from aejax.core import mesh, steps
from aejax.data import batches
from aejax.data.frames import as_table
from aejax.detection.drift import UsualValues
from aejax.detection.fitted import FittedModel
from aejax.detection.reasons import Reason, in_units, named_reasons
from aejax.detection.rows import finite_rows
from aejax.models.backend import shapes_of

# The name under which `state_rows` gives what `encode` gives.
LATENT = "latent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainedModel(FittedModel):
    """Trained networks that explain, reconstruct, encode and decode rows, on every route."""

    def explain(
        self, x: Any, *, groups: Any = None, top: int = 3, batch_size: int | None = None
    ) -> list[list[Reason]]:
        """The features that err most next to their usual error, most first, for every row.

        What was found and expected is in the rows' own units; errors are in scaled ones, in which
        features compare.

        Raises:
            InputError: if rows don't fit the schema, the network gives no reconstructions, or
                `top` is not from 1 to the number of features.
        """
        table = None
        x, names = self._with_members(x, groups)
        if self.schema.columns is not None:
            # Once: a stream has its rows only once.
            table = as_table(x, self.schema.sources)
        rows, members = self._finite_rows(x if table is None else table, names)
        _, features, errors = self.explain_rows(
            rows, members=members, top=top, batch_size=batch_size
        )
        usual = self.usual_errors
        if usual is not None and members is not None:
            usual = usual[members]
        cells = in_units(self, rows, table, members)
        return named_reasons(self.schema, features, errors, usual, cells)

    @property
    def usual_errors(self) -> np.ndarray | None:
        """Each feature's mean error in normal rows, float32 [features], if it is known.

        Of groups, [groups, features].
        """
        known = self.variables.get("normal", {}).get("error")
        if known is None:
            return None
        usual = np.asarray(known)
        return usual if self.combine is None else usual.mean(axis=0)

    @property
    def usual_channel_errors(self) -> np.ndarray | None:
        """Each channel's mean error in windows of normal rows, float32 [channels], if known."""
        usual, series = self.usual_errors, self.schema.series
        if usual is None or series is None:
            return None
        errors: np.ndarray = usual.reshape(series.length, -1).mean(axis=0)
        return errors

    @property
    def usual_values(self) -> UsualValues | None:
        """How normal rows' features are spread, if it is known; of an ensemble, the first's."""
        known = self.variables.get("normal", {}).get("values")
        # Groups have no values in common.
        if known is None or self.groups is not None:
            return None
        if self.combine is not None:
            known = {name: leaf[0] for name, leaf in known.items()}
        return UsualValues(**{name: np.asarray(leaf) for name, leaf in known.items()})

    @property
    def usual_point_values(self) -> UsualValues | None:
        """How normal rows of the input are spread: of windows, how the channels' newest are."""
        known, channels = self.usual_values, self.schema.table.features
        if known is None or self.schema.series is None:
            return known
        return UsualValues(known.edges[:, -channels:], known.shares[:, -channels:])

    def errors_of(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Every feature's error, float32 [n, features], of rows that were prepared.

        Their mean is the row's error: a member that doesn't see some features
        (`Vary.features`) counts the others more. A missing cell of a mixed table has 0.

        Raises:
            InputError: if the network gives no reconstructions.
        """
        self._model.require_reconstructions("errors_of")
        (errors,) = self._model.run(steps.compiled_errors, rows, batch_size, members)
        return errors.reshape(len(rows), -1)

    def feature_errors(self, x: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
        """Every feature's error, float32 [n, features], of what `reconstruct` gave."""
        placed = mesh.ONE_DEVICE.everywhere((x, reconstruction))
        error = jax.device_get(steps.compiled_feature_error(self.config.error, *placed))
        return np.reshape(error, (len(x), -1))

    def explain_rows(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        top: int,
        batch_size: int | None = None,
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top].

        Raises:
            InputError: as `explain` does, but for rows: they have to be prepared.
        """
        self._model.require_reconstructions("explain")
        if not 1 <= top <= self.schema.features:
            raise InputError(f"top is {top}; allowed: 1 to {self.schema.features} features")
        return self._model.run(steps.compiled_explain, rows, batch_size, members, top=top)

    def reconstruct(
        self, x: Any, *, groups: Any = None, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled rows and their reconstructions, both float32 [n, ...].

        Of a mixed table a column's reconstruction is what the network expects there: the code
        of the likeliest category, the probability of true, the value of a cycle.

        Raises:
            InputError: if the network gives no reconstructions, or rows don't fit the schema.
        """
        self._model.require_reconstructions("reconstruct")
        rows, members = self._rows(x, groups)
        return self.reconstruct_rows(rows, members=members, batch_size=batch_size)

    def reconstruct_rows(
        self,
        rows: np.ndarray,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `reconstruct`, of rows that were prepared."""
        scaled, y = self._model.run(steps.compiled_reconstruct, rows, batch_size, members)
        return scaled, y

    def encode(self, x: Any, *, groups: Any = None, batch_size: int | None = None) -> np.ndarray:
        """Latent values of every row, float32 [n, ...].

        A variational model's are its posterior's means, a classifier's what its last layer
        sees, a context model's the sum of the neighbours' embeddings.

        Raises:
            InputError: if the detector is an ensemble, rows don't fit the schema, or one holds
                NaN or infinity.
        """
        self._model.require("encode", allowed="no ensemble")
        rows, members = self._finite_rows(x, groups)
        return self.state_rows(rows, LATENT, members=members, batch_size=batch_size)

    def decode(self, latent: Any) -> np.ndarray:
        """Rows that latent values stand for, in scaled units.

        Args:
            latent: float32 [n, ...], as `encode` gives them.

        Returns:
            float32 [n, ...].

        Raises:
            InputError: if the detector is no single model, it gives no reconstructions, or
                latent values have another shape.
        """
        self._model.require("decode", allowed="a single model")
        self._model.require_reconstructions("decode")
        variables, scaler = self._model.arrays_on(mesh.ONE_DEVICE)
        latent = np.asarray(latent, np.float32)
        shape = shapes_of(
            lambda x: steps.encode_rows(self.scoring, variables, scaler, x), self._one_row
        ).shape[1:]
        if latent.shape[1:] != shape:
            raise InputError(
                f"latent values have shape {list(latent.shape)}; allowed: [n, "
                f"{', '.join(map(str, shape))}]"
            )
        placed = mesh.ONE_DEVICE.everywhere(latent)
        rows: np.ndarray = jax.device_get(steps.compiled_decode(self.scoring, variables, placed))
        return rows

    def generate(self, count: int, *, seed: int = 0) -> np.ndarray:
        """New rows of a variational model: decoded samples of its prior, in scaled units.

        Returns:
            float32 [count, ...]: the means of the likelihood, as is usual for pictures.

        Raises:
            InputError: if the model is not variational, or `count` isn't positive.
        """
        network: Any = self.config.model
        if not network.generates:
            raise InputError(
                f"generate: the model is {type(network).__name__}; allowed: Variational"
            )
        if count < 1:
            raise InputError(f"generate: count is {count}; allowed: at least 1")
        random = batches.host_random(seed, "generate")
        return self.decode(random.normal(size=(count, network.latent)))

    def classify(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Probabilities of the classes, float32 [n, classes], of a classifier.

        Raises:
            InputError: if the model is another one, rows don't fit the schema, or one holds NaN
                or infinity.
        """
        if not self.config.model.learns_classes:
            raise InputError(
                f"classify: the model is {type(self.config.model).__name__}; allowed: Classifier"
            )
        rows = finite_rows(x, self.schema)
        (logits,) = self._model.run(steps.compiled_output, rows, batch_size)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """The layers whose neurons' states can be had, and the shape of one row's."""
        variables, scaler = self.variables, self.scaler
        if self.groups is not None:
            variables, scaler = jax.tree.map(lambda leaf: leaf[0], (variables, scaler))
        shapes = shapes_of(
            lambda x: steps.state_rows(self.scoring, variables, scaler, x), self._one_row
        )
        return {name: state.shape[1:] for name, state in shapes.items()}

    @property
    def _one_row(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.schema.shape), np.float32)

    def states(
        self, x: Any, layer: str, *, groups: Any = None, batch_size: int | None = None
    ) -> np.ndarray:
        """The states of one layer's neurons after the activation, float32 [n, ...].

        Args:
            x: rows, as in `score`.
            layer: one of `layers`.
            groups: as in `score`.
            batch_size: rows in a compiled batch.

        Raises:
            InputError: if there is no such layer, with the nearest name; and as `encode` does.
        """
        self._model.require("states", allowed="no ensemble")
        if layer not in self.layers:
            raise InputError(f"layer is {layer!r}; {suggest(layer, self.layers)}")
        rows, members = self._finite_rows(x, groups)
        return self.state_rows(rows, layer, members=members, batch_size=batch_size)

    def state_rows(
        self,
        rows: np.ndarray,
        layer: str,
        *,
        members: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """States of a layer, or of "latent" what `encode` gives, of rows that were prepared."""
        program, how = steps.compiled_layer_state, {"layer": layer}
        if layer == LATENT:
            program, how = steps.compiled_encode, {}
        (states,) = self._model.run(program, rows, batch_size, members, **how)
        return states
