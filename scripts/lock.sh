#!/usr/bin/env bash
# Writes locks/*.txt: every package that the demo and the tests install, with the hashes of its
# files, for Python 3.11 and newer on any system. Needs uv (pip install uv). Run it after a
# change of dependencies in pyproject.toml; AEJAX_LOCKED=1 has the scripts install from them.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

lock() { # name, extras
    local name=$1 extra arguments=()
    shift
    for extra in "$@"; do
        arguments+=(--extra "$extra")
    done
    uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-header --no-emit-index-url ${arguments[@]+"${arguments[@]}"} \
        --output-file "locks/$name.txt" >/dev/null
}

lock demo
lock test dev prepare
