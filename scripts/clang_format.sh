#!/usr/bin/env bash
# Formats the C++ and CUDA sources, or with --check only says what is not formatted. The version is pinned: others differ.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=14
for tool in "clang-format-$wanted" clang-format; do
  if command -v "$tool" >/dev/null && "$tool" --version | grep -q "version $wanted\."; then
    mapfile -t files < <(git ls-files 'native/*.h' 'native/*.cpp' 'native/*.cu' 'native/*.cuh' 'test/cuda-emu/*.h' 'test/cuda-emu/*.cpp' 'test/cuda-emu/*.cu')
    if [ "${1:-}" = --check ]; then exec "$tool" --dry-run --Werror "${files[@]}"; fi
    exec "$tool" -i "${files[@]}"
  fi
done
echo "clang-format $wanted is needed (Debian 12: apt-get install clang-format; elsewhere: pip install clang-format==$wanted.*)" >&2
exit 1
