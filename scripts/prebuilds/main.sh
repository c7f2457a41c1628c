#!/usr/bin/env bash
# npm run prebuilds: prebuilds/linux-<arch>/birkhoff.glibc.node, from scratch. Compiled by the GCC of a Debian 11 root against that
# root's libraries, so that they load wherever Node 20 does (glibc 2.28): linux-x64 with CUDA, linux-arm64 by cross-compiling.
# Exit codes: 0 built, 1 failed, 2 wrong flags, 3 something that it needs is missing (all of it is named).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/scripts/prebuilds
export PREBUILD_FOLDER=$root/build-prebuilds
host=$(node -p process.arch)

usage="Usage: npm run prebuilds -- [--only linux-x64|linux-arm64] [--cuda on|off] [--mirror URL]

  --only    one platform (default: x64 and arm64 on x64, arm64 on arm64)
  --cuda    off: without CUDA kernels (default: on for this machine's own architecture, which needs nvcc; never when cross-compiling)
  --mirror  of Debian (default: http://deb.debian.org/debian)

The Debian 11 root, 1.4 GB, stays in build-prebuilds/ for the next time."
wrong() { printf 'prebuilds: %s\n%s\n' "$1" "$usage" >&2; exit 2; }
only= cuda=on
export DEBIAN_MIRROR=http://deb.debian.org/debian
while [ $# -gt 0 ]; do
  case $1 in
    --help) echo "$usage"; exit 0 ;;
    --only | --cuda | --mirror) [ $# -gt 1 ] || wrong "$1 wants a value" ;;&
    --only) only=$2 ;;
    --cuda) cuda=$2 ;;
    --mirror) DEBIAN_MIRROR=$2 ;;
    *) wrong "unknown flag $1" ;;
  esac
  shift 2
done
case $only in
  "") [ "$host" = x64 ] && platforms=(linux-x64 linux-arm64) || platforms=("linux-$host") ;;
  linux-x64 | linux-arm64) platforms=("$only") ;;
  *) wrong "--only is \"$only\", want linux-x64 or linux-arm64" ;;
esac
[[ $cuda =~ ^(on|off)$ ]] || wrong "--cuda is \"$cuda\", want on or off"

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
[ "$(uname -s)" = Linux ] || missing+=("Linux")
[ "$(id -u)" -eq 0 ] || [ -f "$PREBUILD_FOLDER/ready" ] || missing+=("root, for debootstrap")
[ -f "$PREBUILD_FOLDER/ready" ] || need debootstrap "debootstrap (apt-get install debootstrap)"
need cmake "cmake 3.22 or later (apt-get install cmake)"
need ninja "ninja (apt-get install ninja-build)"
[ -x "$root/node_modules/.bin/prebuildify" ] || missing+=("node_modules (npm ci)")
for platform in "${platforms[@]}"; do
  arch=${platform#linux-}
  [ "$arch" = "$host" ] || [ "$host" = x64 ] || missing+=("an x64 machine for $platform: it is cross-compiled from there alone")
  nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null || true)
  [ "$arch" != "$host" ] || [ "$cuda" = off ] || [ -n "$nvcc" ] ||
    missing+=("nvcc 12.8 or later for $platform's kernels (the CUDA toolkit's nvcc and cudart), or --cuda off")
done
if [ ${#missing[@]} -gt 0 ]; then
  printf 'prebuilds: this is missing:\n' >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 3
fi

bash "$here/root.sh"
for platform in "${platforms[@]}"; do
  export PREBUILD_CUDA=OFF PREBUILD_PLATFORM_ARCH=${platform#linux-}
  [ "$PREBUILD_PLATFORM_ARCH" != "$host" ] || [ "$cuda" = off ] || PREBUILD_CUDA=ON
  folder=$PREBUILD_FOLDER/$platform
  mkdir -p "$folder"
  # prebuildify moves what it finds in build/Release of its folder: a checkout's own build stays where it is.
  (cd "$root" && node_modules/.bin/prebuildify --napi --strip --tag-libc=glibc --quiet --name birkhoff --cwd "$folder" --out "$root" \
    --arch "$PREBUILD_PLATFORM_ARCH" --node-gyp "$here/cmake.sh" --strip-bin "$PREBUILD_FOLDER/bin/$PREBUILD_PLATFORM_ARCH-strip") ||
    { tail -40 "$folder/build.log" >&2; exit 1; }
  bash "$here/check.sh" "$root/prebuilds/$platform/birkhoff.glibc.node"
  bash "$here/instructions.sh" "$folder/build" "$PREBUILD_PLATFORM_ARCH"
done
