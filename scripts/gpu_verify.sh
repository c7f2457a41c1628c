#!/usr/bin/env bash
# Verifies and measures the GPU backend on a machine with an NVIDIA GPU; see bench/README.md. NODE names another node binary.
# Exit codes: 0 all passed, 1 something failed, 2 wrong flags, 3 no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
node=$(command -v "${NODE:-node}") || {
  echo "gpu:verify: ${NODE:-node} was not found; name a Node binary in NODE" >&2
  exit 1
}
# Programs that tests start look for node in PATH.
PATH="$(dirname "$(realpath "$node")"):$PATH" exec "$node" --no-warnings --import tsx scripts/gpu_verify/main.ts "$@"
