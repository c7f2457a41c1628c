#!/usr/bin/env bash
# What prebuildify calls in place of node-gyp, in the folder whose build/Release it will look into; its arguments (rebuild --arch=…
# --release) say nothing that the environment does not.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
arch=$PREBUILD_PLATFORM_ARCH
compiler=$PREBUILD_FOLDER/bin/$arch-g++
options=(-DBIRKHOFF_RELEASE=ON "-DBIRKHOFF_CUDA=$PREBUILD_CUDA" "-DCMAKE_CXX_COMPILER=$compiler")
[ "$PREBUILD_CUDA" = OFF ] || options+=("-DCMAKE_CUDA_HOST_COMPILER=$compiler")
[ "$arch" = "$(node -p process.arch)" ] || options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64)
rm -rf build/Release
{
  cmake -S "$root" -B build -G Ninja "${options[@]}"
  cmake --build build --parallel "${JOBS:-$(nproc)}" --target birkhoff
} >build.log 2>&1
mkdir -p build/Release
mv build/birkhoff.node build/Release/
