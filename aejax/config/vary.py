"""What an ensemble's members differ in, besides their seeds."""

from __future__ import annotations

import dataclasses

from aejax.config.checks import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vary:
    """Parts that each member of an ensemble is given of everything; None gives it all.

    Attributes:
        features: each member sees a random subset of the features, of a random size between
            this share and all but one ("feature bagging": Lazarevic and Kumar, "Feature
            bagging for outlier detection", KDD 2005, with a share of 0.5).
        units: each hidden layer of a member has a random number of units between this share
            and all.
        connections: each weight between two layers is kept with this probability (compare
            RandNet: Chen, Sathe, Aggarwal and Turaga, "Outlier detection with autoencoder
            ensembles", SDM 2017, whose connections are drawn with replacement).
        rows: share of the training rows that a member trains on, drawn without replacement.

    Example:
        >>> aejax.fit(config, x, members=8, vary=aejax.Vary(features=0.5))  # doctest: +SKIP
        >>> aejax.Vary(features=0.5).rows is None
        True
    """

    features: float | None = None
    units: float | None = None
    connections: float | None = None
    rows: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"Vary.{field.name} is {value!r}; allowed: above 0, at most 1")

    @property
    def masks(self) -> bool:
        """Whether members lack parts of the network."""
        return any(part is not None for part in (self.features, self.units, self.connections))
