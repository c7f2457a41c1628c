#!/usr/bin/env bash
# A Debian 11 root with GCC 10 in $PREBUILD_FOLDER/bullseye, and in $PREBUILD_FOLDER/bin its compilers as commands of this machine:
# they run here as they are, beside the few libraries they need, and look for headers and libraries in the root (--sysroot). No
# chroot and no mounts, so nvcc can call them and nothing can be left mounted.
set -euo pipefail
folder=$PREBUILD_FOLDER
bullseye=$folder/bullseye
declare -A triplets=([x64]=x86_64-linux-gnu [arm64]=aarch64-linux-gnu)
host=${triplets[$(node -p process.arch)]}

if [ ! -f "$folder/ready" ]; then
  rm -rf "$bullseye" "$folder/bin" "$folder/lib"
  packages=g++
  [ "$host" != x86_64-linux-gnu ] || packages+=,g++-aarch64-linux-gnu
  mkdir -p "$folder"
  debootstrap --variant=minbase --include=$packages bullseye "$bullseye" "$DEBIAN_MIRROR" >"$folder/debootstrap.log" 2>&1 ||
    { tail -20 "$folder/debootstrap.log" >&2; exit 1; }
  # A linker follows links itself: those that begin with / would lead out of the root.
  find "$bullseye"/usr/{lib,lib64,aarch64-linux-gnu} -type l -lname '/*' 2>/dev/null | while read -r link; do
    ln -sfnr "$bullseye$(readlink "$link")" "$link"
  done
  mkdir -p "$folder/bin" "$folder/lib"
  for name in isl mpc mpfr gmp zstd z opcodes bfd ctf; do
    for file in "$bullseye/usr/lib/$host/lib$name"[-.]*so*; do [ ! -e "$file" ] || ln -sf "$file" "$folder/lib/"; done
  done
  for arch in x64 arm64; do
    triplet=${triplets[$arch]}
    [ -x "$bullseye/usr/bin/$triplet-g++" ] || continue
    # The compiler looks for as and ld by these names, in the machine's folders too.
    mkdir -p "$folder/bin/$arch"
    for tool in as ld; do ln -sf "$bullseye/usr/bin/$triplet-$tool" "$folder/bin/$arch/$tool"; done
    for tool in g++ strip objdump; do
      options=
      [ $tool != g++ ] || options="--sysroot='$bullseye' -B'$folder/bin/$arch/'"
      printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q %s "$@"\n' "$folder/lib" "$bullseye/usr/bin/$triplet-$tool" "$options" >"$folder/bin/$arch-$tool"
      chmod +x "$folder/bin/$arch-$tool"
    done
  done
  touch "$folder/ready"
fi
