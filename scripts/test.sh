#!/usr/bin/env bash
# Everything that must hold before a change lands: lint, format, types, tests.
#
#   scripts/test.sh                      all of it
#   scripts/test.sh tests/data -k csv    only pytest, with these arguments
#   scripts/test.sh -m slow              the tests that take minutes
#   scripts/test.sh peers                beside PyTorch, Keras and PyOD, which it installs
#
# Tests on real data run where AEJAX_DATA_DIR names a folder with the data sets.
set -euo pipefail
[[ -z ${AEJAX_DATA_DIR:-} ]] || AEJAX_DATA_DIR=$(cd -- "$AEJAX_DATA_DIR" && pwd)
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
if [[ ${1:-} == peers ]]; then
    ensure_environment dev peers
    cd -- "$AEJAX_ROOT"
    exec python -m pytest tests/test_peers.py tests/benchmarks "${@:2}"
fi
ensure_environment dev prepare
cd -- "$AEJAX_ROOT"

if (($#)); then
    exec python -m pytest "$@"
fi
ruff check .
ruff format --check .
mypy aejax benchmarks
# Two processes: most of the time goes into compiling, on one core each.
python -m pytest -n 2
