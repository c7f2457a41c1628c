#!/usr/bin/env bash
# Verifies and measures the GPU backend on a machine with an NVIDIA GPU; see bench/README.md. NODE names another node binary.
# Exit codes: 0 all passed, 1 something failed, 2 wrong flags, 3 no GPU.
set -euo pipefail
# A pack (npm run gpu:pack) has a node of its own.
packed=$(dirname "$0")/../bin/node
[ -x "$packed" ] || packed=node
node=$(command -v "${NODE:-$packed}") || {
  echo "gpu:verify: ${NODE:-$packed} was not found; name a Node binary in NODE" >&2
  exit 1
}
node=$(realpath "$node")
cd "$(dirname "$0")/.."
# PyTorch may have brought the only cuBLAS there is, in a place that is not searched.
if [ -z "${BIRKHOFF_CUBLAS:-}" ]; then
  found=$(python3 - 2>/dev/null <<'EOF' || true
import glob, os, sys
for folder in sys.path:
    for file in sorted(glob.glob(os.path.join(folder, "nvidia", "*", "lib", "libcublas.so.1[23]")), reverse=True):
        print(file)
        raise SystemExit
EOF
  )
  [ -z "$found" ] || export BIRKHOFF_CUBLAS=$found
fi
# Programs that tests start look for node in PATH.
PATH="$(dirname "$node"):$PATH" exec "$node" --no-warnings --import tsx scripts/gpu_verify/main.ts "$@"
