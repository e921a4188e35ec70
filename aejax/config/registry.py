"""Built-in parts by name, each loaded when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class Registry(Mapping[str, Any]):
    """Parts of one kind by name, as a mapping.

    Rooms above this one hold the parts. Only their places are known here, so that settings can
    be read, named and suggested without loading any of them.

    Args:
        places: "module:attribute" of each name.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> Any:
        module, attribute = _split(self.places[name])
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def name_of(self, part: Any) -> str | None:
        """The name of a class or function that is built in; None of any other."""
        place = f"{part.__module__}:{part.__qualname__}"
        return next((name for name, known in self.places.items() if known == place), None)

    @property
    def attributes(self) -> dict[str, str]:
        """The module of each part, by the name that it has there."""
        return {attribute: module for module, attribute in map(_split, self.places.values())}


def _split(place: str) -> tuple[str, str]:
    module, _, attribute = place.partition(":")
    return module, attribute
