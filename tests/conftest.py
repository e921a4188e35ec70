"""What all tests share."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

CACHE = Path(__file__).parents[1] / ".cache"

# Set here, before anything imports what reads them, so that child processes have them too.
# A second run finds its programs compiled: traces, and so the tests that count them, stay.
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("AEJAX_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "tests-compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Most of the time goes into compiling, and of that more than half into making programs of a few
# rows faster. XLA_FLAGS= (empty) tests them as users' machines compile them.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
)
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Later ones end the process when they see a flag that they no longer have.
    QUICK_TO_COMPILE += ("--xla_cpu_use_fusion_emitters=false",)
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK_TO_COMPILE))

# Compiling makes the first example slow, and a test suite that gates changes repeats itself.
settings.register_profile("aejax", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("aejax")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("AEJAX_DATA_DIR")
    if not folder:
        pytest.skip("AEJAX_DATA_DIR is not set: no real data")
    return Path(folder)


@pytest.fixture(autouse=True, scope="module")
def drop_compiled_programs() -> Iterator[None]:
    """Free each module's compiled programs.

    Compiled code holds memory maps until it is dropped, and a process has a bounded
    number of them: some hundred programs on, LLVM cannot allocate any more.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()
