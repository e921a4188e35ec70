#!/usr/bin/env bash
# Runs a command as several processes of this machine that train together:
#
#   scripts/launch_local.sh 2 aejax train --input rows.csv --out runs/mine
#
# When one of them fails, the others get AEJAX_GRACE_SECONDS (10) to end by themselves; then they
# are killed, and the exit code is that of the first that failed. SIGTERM and SIGINT go to all.
exec python3 "$(dirname -- "${BASH_SOURCE[0]}")/launch_local.py" "$@"
