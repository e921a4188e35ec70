"""Settings as JSON: written, read, and refused with the field's name."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aejax.config.checks import InputError, suggest
from aejax.config.detector import Config
from aejax.config.durable import write_file
from aejax.config.models import MODELS
from aejax.config.own import Own, describe
from aejax.config.own_network import OwnNetwork, described
from aejax.config.registry import Registry
from aejax.config.rules import RULES, Rule, rule_text
from aejax.config.scores import SCORES, Score, score_text

FORMAT_VERSION = 1
MAX_JSON_BYTES = 1 << 20

_KIND_NAMES = {kind: name for name, kind in MODELS.items()}
# Fields of these types hold a built-in part, or any object of the protocol, which the second says
# in one line.
_PARTS: dict[Any, tuple[Registry, Callable[[Any], str]]] = {
    Rule: (RULES, rule_text),
    Score | str: (SCORES, score_text),
}
_SETTINGS = "aejax.config."
# What is written as it is.
_PLAIN = (str, int, float, bool, tuple, type(None))
Settings = TypeVar("Settings")


def to_dict(settings: Any, *, keep_own: bool = False) -> dict[str, Any]:
    """Settings as a JSON-ready dict; a class among several is named by its "kind_name".

    Args:
        settings: a configuration, or a part of one.
        keep_own: leave objects of a person's own as they are, so that `from_dict` gives them back;
            their descriptions are JSON-ready.
    """
    if isinstance(settings, OwnNetwork):
        return settings.to_dict()
    written: dict[str, Any] = {}
    if type(settings) in _KIND_NAMES:
        written["kind_name"] = _KIND_NAMES[type(settings)]
    hints = _hints(type(settings))  # type: ignore[arg-type]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if hints[field.name] in _PARTS:
            value = part_to_dict(value, hints[field.name], keep_own=keep_own)
        elif isinstance(value, OwnNetwork):
            value = value if keep_own else value.to_dict()
        elif dataclasses.is_dataclass(value) and type(value).__module__.startswith(_SETTINGS):
            value = to_dict(value, keep_own=keep_own)
        # An optax.GradientTransformation is a tuple, too.
        elif not keep_own and (not isinstance(value, _PLAIN) or hasattr(value, "_fields")):
            value = describe(value).to_dict()
        written[field.name] = list(value) if isinstance(value, tuple) else value
    return written


def part_to_dict(part: object, kind: object, *, keep_own: bool = False) -> Any:
    """A part of a configuration, such as a rule, as a JSON-ready dict.

    A built-in part is its name, or its name and settings; an object of a person's own is its
    description.

    Args:
        part: the object.
        kind: its protocol, as `Rule`.
        keep_own: give an object of a person's own as it is.
    """
    if isinstance(part, str):
        return part
    registry, text = _PARTS[kind]
    name = registry.name_of(type(part))
    if name is not None:
        return {"kind_name": name, **to_dict(part)}
    return part if keep_own else describe(part, text(part)).to_dict()


def part_from_dict(written: object, kind: object, field: str) -> Any:
    """The part that `part_to_dict` wrote; a placeholder where an own object was described.

    Args:
        written: read from JSON.
        kind: the part's protocol, as `Rule`.
        field: what it is read for, for messages.

    Raises:
        InputError: naming the field, if it is none.
    """
    if not isinstance(written, Mapping):
        raise InputError(f"{field} is {written!r}; allowed: a JSON object")
    if "own" in written:
        return Own.from_dict(written, field)
    name, (registry, _) = written.get("kind_name"), _PARTS[kind]
    if not isinstance(name, str) or name not in registry:
        raise InputError(
            f"{field}.kind_name is {name!r}; allowed: {', '.join(map(repr, registry))}"
        )
    return from_dict(written, registry[name])


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_dict(written: Mapping[str, Any], kind: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """The settings that `to_dict` wrote.

    Raises:
        InputError: naming the field, where a field is unknown, of a wrong type or out of range.
    """
    if not isinstance(written, Mapping):
        raise InputError(f"{kind.__name__} is {written!r}; allowed: a JSON object")
    hints = _hints(kind)  # type: ignore[arg-type]
    settings = {name: value for name, value in written.items() if name != "kind_name"}
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in settings:
        if name not in names:
            raise InputError(f"{kind.__name__} has no field {name!r}; {suggest(name, names)}")
    return kind(
        **{
            name: _read(value, hints[name], f"{kind.__name__}.{name}")
            for name, value in settings.items()
        }
    )


def _read(value: object, hint: object, field: str) -> Any:
    if hint in _PARTS:
        # The owner of the field says what is allowed beside a description.
        return part_from_dict(value, hint, field) if isinstance(value, Mapping) else value
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if is_union else (hint,)
    if OwnNetwork in options and isinstance(value, OwnNetwork):
        return value
    if Any in options and isinstance(value, Mapping) and "own" in value:
        return Own.from_dict(value, field)
    if value is None and type(None) in options:
        return None
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    if classes:
        if not isinstance(value, Mapping):
            raise InputError(f"{field} is {value!r}; allowed: a JSON object")
        if len(classes) == 1:
            return from_dict(value, classes[0])  # type: ignore[arg-type]
        if OwnNetwork in classes and value.get("kind_name") == "own":
            return described(str(value.get("name")), str(value.get("text")))
        classes = [option for option in classes if option is not OwnNetwork]
        names = {_KIND_NAMES[option]: option for option in classes}  # type: ignore[index]
        name = value.get("kind_name")
        if not isinstance(name, str) or name not in names:
            raise InputError(
                f"{field}.kind_name is {name!r}; allowed: {', '.join(map(repr, names))}"
            )
        return from_dict(value, names[name])  # type: ignore[arg-type]
    if any(typing.get_origin(option) is tuple for option in options):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{field} is {value!r}; allowed: a list")
        return tuple(value)
    if bool in options and not isinstance(value, bool):
        raise InputError(f"{field} is {value!r}; allowed: true or false")
    return value


def write_config(config: Config, path: Path) -> None:
    """Write a configuration as JSON, aside first and then renamed."""
    write_file(path, json.dumps({"format": FORMAT_VERSION, **to_dict(config)}, indent=2) + "\n")


def read_config(path: Path) -> Config:
    """Read a configuration that `write_config` wrote.

    Raises:
        InputError: if the file is missing, too large, not JSON, of a newer format or wrong.
    """
    written = read_json(path)
    version = written.pop("format", None)
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format is {version!r}; allowed: {FORMAT_VERSION}")
    try:
        return from_dict(written)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_bounded(path: Path, max_bytes: int, parse: Callable[[str], Any], kind: str) -> Any:
    """What a file of bounded size holds.

    Args:
        path: the file.
        max_bytes: of it.
        parse: its text to what it holds.
        kind: of text, for messages.

    Raises:
        InputError: if the file is missing, larger, or can't be parsed.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path} has {size} bytes; allowed: at most {max_bytes}")
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except InputError:
        raise
    # ValueError: not UTF-8, not parsed, or a number of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not readable as {kind}: {reason}") from None


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
        InputError: if the file is missing, larger than `max_bytes` or not a JSON object.
    """
    value = read_bounded(path, max_bytes, json.loads, "JSON")
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}; allowed: a JSON object")
    return value
