#!/usr/bin/env bash
# Trains, kills, resumes, scores, kills, resumes, and compares with runs that were left alone,
# again and again: scripts/soak.sh [minutes, 5 by default] [seed, 0 by default].
# One line a round; exit code 1 at the first difference, whose folder is kept and named.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment
exec python "$AEJAX_ROOT/scripts/soak.py" "$@"
