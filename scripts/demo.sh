#!/usr/bin/env bash
# Trains, calibrates and scores on handwritten digits that come with scikit-learn, then
# writes a report and prints where: scripts/demo.sh [--out DIR] [any other option of `aejax run`].
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment

out="$AEJAX_ROOT/runs/digits"
arguments=()
while (($#)); do
    case $1 in
    --out)
        out=${2:?--out needs a folder}
        shift 2
        ;;
    --out=*)
        out=${1#--out=}
        shift
        ;;
    *)
        arguments+=("$1")
        shift
        ;;
    esac
done

aejax run digits --out "$out" --overwrite ${arguments[@]+"${arguments[@]}"}
