"""The command line: reads arguments, calls the package, prints results.

Results go to stdout (`--json` makes them one JSON object), progress and messages to
stderr. Exit codes: 0 done, 2 bad input, 3 done but a limit that was asked for is exceeded
(`aejax score --fail-on-drift`), 75 another process was lost, 130 Ctrl-C, 143 SIGTERM (training
writes a checkpoint first); after the last three the same command continues.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import logging
import os
import platform
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Suppress, arg

from aejax import __version__
from aejax.commands import COMMANDS, Training
from aejax.config import MODELS, InputError, suggest
from aejax.config.checks import check_unicode
from aejax.config.effort import PLAIN, cost, settings_beside, settings_of
from aejax.config.rules import default_rule, rule_text
from aejax.data.datasets import cache_folder

# Those that learn from rows alone; the others need labels, or windows of numbers.
TRAINABLE = ("dense", "conv", "temporal", "super-resolution", "variational", "noise-conditioned")
EXIT_INPUT, EXIT_LIMIT, EXIT_INTERRUPT, EXIT_TERMINATED = 2, 3, 130, 143
# What sysexits.h calls a failure that another attempt may not meet.
EXIT_LOST = 75
# Read without importing JAX, which other commands may never need.
ENVIRONMENT_OF_PROCESSES = "AEJAX_COORDINATOR"


def as_text(result: Any, indent: str = "") -> str:
    """Nested results as indented lines."""
    lines = []
    for name, value in result.items():
        name = name or "''"
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", as_text(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            lines.append(f"{indent}{name}:")
            lines += [
                f"{indent}  " + ", ".join(f"{key}: {_shown(cell)}" for key, cell in one.items())
                for one in value
            ]
        else:
            lines.append(f"{indent}{name}: {_shown(value)}")
    return "\n".join(lines)


def _shown(value: Any) -> Any:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else value


_FLAGS = tyro.constructors.ConstructorRegistry()
_CONVENTIONS = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)


@_FLAGS.primitive_rule
def _names_alone(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """What a flag takes for a field of names or objects: names, as objects can't be typed."""
    options = typing.get_args(info.type)
    if Any not in options:
        return None
    (names,) = (option for option in options if option is not Any)
    known = tyro.constructors.PrimitiveTypeInfo.make(names, set())
    return tyro.constructors.ConstructorRegistry.get_primitive_spec(known)


def parse(arguments: Sequence[str]) -> Any:
    """The command that a command line asks for."""
    name = arguments[0] if arguments else "--help"
    if name not in COMMANDS and not name.startswith("-"):
        raise InputError(f"command is {name!r}; {suggest(name, COMMANDS)}")
    commands = {**COMMANDS, "train": _training_for(arguments)}
    kinds = tuple(
        Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)]
        for name, kind in commands.items()
    )
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                union,
                prog="aejax",
                description="Train autoencoders and score data by reconstruction error.",
                args=list(arguments),
                config=_CONVENTIONS,
                registry=_FLAGS,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        said = _in_one_line(printed.getvalue())
        raise InputError(_mistyped(name, arguments[1:]) or said) from None


def _mistyped(name: str, arguments: Sequence[str]) -> str | None:
    """What to say of the first flag that a command doesn't have; None where it has all."""
    kinds = {**COMMANDS, "train": _training_for([name, *arguments])}
    if name not in kinds:
        return None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(kinds[name], args=["--help"], config=_CONVENTIONS, registry=_FLAGS)
    known = set(re.findall(r"--[a-z0-9][a-z0-9.-]*", printed.getvalue()))
    for one in arguments:
        flag = one.partition("=")[0].replace("_", "-")
        if re.fullmatch(r"--[a-z0-9][a-z0-9.-]*", flag) and flag not in known:
            near = difflib.get_close_matches(flag, sorted(known), n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            return f"aejax {name} has no flag {flag}; {meant}allowed: see aejax {name} --help"
    return None


def _in_one_line(box: str) -> str:
    """What tyro says in a box of several lines, as one."""
    said = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    text = " ".join(line for line in said if line)
    message, _, where = text.partition("For full helptext")
    where = where.partition("aejax")[2] or " --help"
    message = message.replace("Expected one of", "allowed:").strip(" .")
    return f"{message} (see aejax{where})"


def _training_for(arguments: Sequence[str]) -> type:
    """The train command with the flags of the network that `--model` names.

    Its defaults are those of `Config` in code: all of an effort's, or what suits the network.
    """
    effort = _value(arguments, "--effort")
    mixed = _value(arguments, "--columns.kinds") == "mixed"
    named = _value(arguments, "--model")
    if named is None and any(_value(arguments, flag) is not None for flag in _flags(PLAIN)):
        named = "dense"
    chosen = named or ("dense" if mixed else "noise-conditioned")
    is_own = ":" in chosen
    if not is_own and chosen not in TRAINABLE:
        allowed = suggest(chosen, TRAINABLE)
        raise InputError(f"--model is {chosen!r}; {allowed}, or package.module:Class")
    # A person's own code is imported when the command runs, and is scored by its error: help and
    # wrong flags need none of it.
    kind: Any = Any if is_own else MODELS[chosen]
    model = None if named is None else PLAIN if is_own else kind()
    contaminated = "--contaminated" in arguments
    if effort is None and not contaminated:
        decided = settings_beside(model, mixed=mixed)
    else:
        decided = settings_of(
            effort or "standard", model=model, mixed=mixed, contaminated=contaminated
        )
        if is_own:
            decided["train"] = dataclasses.replace(decided["train"], noise=0.0)
    if _value(arguments, "--epochs") is not None and decided["train"].epochs is None:
        # Named, they are counted instead.
        decided["train"] = dataclasses.replace(decided["train"], steps=None, epochs=1)
    default = None if is_own else decided.pop("model")
    decided = {
        "train": decided["train"],
        "scale": decided["scale"],
        "score": decided["score"],
        "ensemble": None if effort is None else cost(effort).members,
        "model": chosen,
        "rule": rule_text(decided.get("rule", default_rule())),
    }
    hidden = (Suppress,) if is_own else ()
    hints = typing.get_type_hints(Training, include_extras=True)
    return dataclasses.make_dataclass(
        "Training",
        [
            (
                "network",
                Annotated[(kind, arg(name=""), *hidden)],
                dataclasses.field(default=default),
            ),
            *((name, hints[name], dataclasses.field(default=decided[name])) for name in decided),
        ],
        bases=(Training,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": Training.__doc__},
    )


def _flags(settings: Any) -> list[str]:
    """The flags of a network's settings."""
    return [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(settings)]


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """What a flag is given, or None; the last where there are several."""
    value = None
    for one, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if one == flag:
            value = after
        elif one.startswith(flag + "="):
            value = one.partition("=")[2]
    return value


def keep_compiled() -> None:
    """Have JAX keep compiled programs for later processes, unless they have a place already.

    By itself JAX keeps only what took a second to compile. Scoring programs take less,
    and a process that scores a thousand rows would spend most of its time on them.
    """
    # A program for one processor may hold instructions that another doesn't have.
    cpu = Path("/proc/cpuinfo")
    facts = (
        cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else [platform.processor()]
    )
    kept = [line for line in facts if line.startswith(("model name", "flags"))][:2] or facts
    machine = hashlib.sha256("".join([platform.machine(), *kept]).encode()).hexdigest()[:12]
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled" / machine))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # XLA of jax 0.10 takes hints for instructions, and says at every kept program that the
    # processor lacks them. What goes wrong is raised, and isn't only logged.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """Write a profile of what runs inside to a folder, unless it is None."""
    if folder is None:
        yield
        return
    check_unicode(folder)
    import jax

    options = jax.profiler.ProfileOptions()
    # Every Python call would bury the device's work, and slow it down.
    options.python_tracer_level = 0
    with jax.profiler.trace(str(folder), profiler_options=options):
        yield


def are_joined() -> bool:
    """Whether this is one of several processes; asking doesn't import JAX."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


@contextlib.contextmanager
def joined(command: Any) -> Iterator[bool]:
    """Be one of several processes where that was asked for; gives whether this one speaks."""
    asked = getattr(command, "distributed", False)
    if not asked and ENVIRONMENT_OF_PROCESSES not in os.environ:
        yield True
        return
    from aejax.training import processes

    if not hasattr(command, "distributed"):
        raise InputError(f"{ENVIRONMENT_OF_PROCESSES} is set; allowed: with `aejax train`")
    processes.join()
    if not processes.is_first():
        # What all of them would say, one says.
        logging.getLogger("aejax").setLevel(logging.ERROR)
    yield processes.is_first()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except Exception:
        if not are_joined():
            raise
        traceback.print_exc()
        code = 1
    if code and are_joined():
        # An orderly end would wait for the other processes, which wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def run(arguments: Sequence[str]) -> int:
    """Run a command line; prints what it says, and returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("aejax").setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be Unicode, nor every terminal know all of it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Orbax logs the stacks of all its threads for what it raises anyway, and what is said here.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"aejax {__version__}")
        return 0
    try:
        command = parse(arguments)
        keep_compiled()
        with joined(command) as speaks, profiled(getattr(command, "profile", None)):
            result = command.run()
    except (InputError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError):
            # A disk that is full, a folder that is read-only or gone.
            name = f"{error.filename}: " if error.filename else ""
            said = f"{name}{error.strerror or error}"
        # A file's name may have a line end in it, and the message is still one line.
        said = "\\n".join(said.splitlines())
        print(f"aejax: {said}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("aejax: interrupted", file=sys.stderr)
        return EXIT_INTERRUPT
    except RuntimeError as error:
        from aejax.training import processes
        from aejax.training.loop import Diverged, Interrupted

        if isinstance(error, Interrupted):
            if processes.is_first():
                print(f"aejax: {error}; the same command continues", file=sys.stderr)
            return EXIT_TERMINATED
        if isinstance(error, Diverged):
            if processes.is_first():
                print(f"aejax: {error}", file=sys.stderr)
            return EXIT_INPUT
        if processes.lost(error):
            said = f"{processes.name()} lost another one ({str(error).splitlines()[0]})"
            print(f"aejax: {said}; the same command continues", file=sys.stderr)
            return EXIT_LOST
        raise
    if not speaks:
        return 0
    show = getattr(command, "show", as_text)
    try:
        print(json.dumps(result, indent=2) if command.json else show(result), flush=True)
    except BrokenPipeError:
        # The reader of stdout has seen enough; Python must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    why = command.failing(result) if hasattr(command, "failing") else None
    if why is not None:
        print(f"aejax: {why}", file=sys.stderr)
        return EXIT_LIMIT
    return 0
