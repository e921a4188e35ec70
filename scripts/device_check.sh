#!/usr/bin/env bash
# Parity with the CPU, speed, populations and memory on the accelerator that JAX finds, as tables:
# scripts/device_check.sh [--sections NAME ...] [--seconds 450] [--small] [--json FILE].
# Runs in the present environment (PYTHON=... picks another), which needs a jax for the device.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# The rest is for the peers in the same process.
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.6}"
exec "${PYTHON:-python3}" -m benchmarks.device "$@"
