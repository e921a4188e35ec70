# shellcheck shell=bash
# Sourced by the other scripts: finds the checkout and keeps its .venv up to date.
#
#   source environment.sh
#   ensure_environment dev prepare    # extras of pyproject.toml; none for plain aejax
#
# Afterwards $AEJAX_ROOT is the checkout and .venv/bin comes first on PATH. Installs only
# when pyproject.toml or the interpreter changed or an extra is missing. Extras add up, so
# scripts that ask for different ones don't undo each other. PYTHON=... picks an interpreter;
# AEJAX_LOCKED=1 installs the versions of locks/, whose hashes pip then checks.

AEJAX_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

_say() { printf '%s\n' "$*" >&2; }

# A name on PATH may be a shim that cannot run, and some systems package venv separately.
_usable() { # interpreter, modules it must have
    "$1" -c "import sys, $2; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1
}

_find_python() {
    local candidate candidates=(python3.13 python3.12 python3.11 python3 python)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if _usable "$candidate" 'ensurepip, venv'; then
            command -v -- "$candidate"
            return
        fi
    done
    _say "error: no usable Python (tried ${candidates[*]}): aejax needs 3.11 or newer with" \
        "venv and ensurepip; name one with PYTHON=/path/to/python"
    return 1
}

# Two lines: what the environment is bound to (its place too: it can't be moved), and what
# it was filled from.
_describe() {
    "$1" -c '
import hashlib, pathlib, platform, sys
print(platform.python_version(), platform.machine(), sys.argv[1])
print(hashlib.sha256(pathlib.Path(sys.argv[1], "pyproject.toml").read_bytes()).hexdigest())
' "$AEJAX_ROOT"
}

ensure_environment() {
    local venv="$AEJAX_ROOT/.venv" base='' filling='' extras='' python wanted wanted_base extra
    local stamp="$venv/aejax-stamp"

    if [[ -f $stamp ]]; then
        { read -r base && read -r filling && read -r extras; } <"$stamp" || true
    fi
    python="$venv/bin/python"
    if ! _usable "$python" pip; then
        base=''
        python=$(_find_python) || return
    elif [[ -n ${PYTHON:-} ]]; then
        python=$(_find_python) || return
    fi
    wanted=$(_describe "$python") || return
    wanted_base=${wanted%%$'\n'*}
    for extra in "$@"; do
        if [[ ,$extras, != *",$extra,"* ]]; then
            extras+="${extras:+,}$extra"
            filling=''
        fi
    done

    if [[ $base$'\n'$filling != "$wanted" ]]; then
        # An environment without a stamp is somebody's own: added to, not cleared.
        if [[ $base != "$wanted_base" && (-f $stamp || $python != "$venv/bin/python") ]]; then
            # Seen through links and shims: an environment can't be made by its own interpreter.
            python=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
            _say "Making .venv with $("$python" -V)"
            "$python" -m venv --clear --without-pip "$venv" || return
            echo unfinished >"$stamp"
            "$venv/bin/python" -m ensurepip --default-pip >/dev/null || return
        fi
        # Written first and replaced last: an interrupted call is followed by a fresh start.
        echo unfinished >"$stamp"
        _say "Installing aejax${extras:+[$extras]} (a minute or two, only after a change)"
        if [[ -n ${AEJAX_LOCKED:-} ]]; then
            # Exactly what was tested, file by file: made by scripts/lock.sh.
            local lock=$AEJAX_ROOT/locks/demo.txt
            [[ -z $extras ]] || lock=$AEJAX_ROOT/locks/test.txt
            "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check \
                --require-hashes --requirement "$lock" || return
        fi
        "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check \
            --editable "$AEJAX_ROOT${extras:+[$extras]}" || return
        printf '%s\n%s\n' "$wanted" "$extras" >"$stamp.new"
        mv -- "$stamp.new" "$stamp"
    fi
    export PATH="$venv/bin:$PATH"
}
