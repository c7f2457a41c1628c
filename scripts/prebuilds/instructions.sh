#!/usr/bin/env bash
# What runs on every machine must hold no instruction that some lack: the objects of a release build, by objdump.
# instructions.sh <build folder> x64|arm64
set -euo pipefail
objects=$1/CMakeFiles
objdump=$PREBUILD_FOLDER/bin/$2-objdump
failed=0
code() { find "$objects/$1.dir" -name '*.o' -print0 | xargs -0 -r -n1 "$objdump" -d --no-show-raw-insn; }
count() { code "$1" | grep -cE "$2" || true; }
expect() {  # target, registers or instructions, yes|no
  local found
  found=$(count "$1" "$2")
  if { [ "$3" = no ] && [ "$found" -gt 0 ]; } || { [ "$3" = yes ] && [ "$found" -eq 0 ]; }; then
    echo "  $1: $found instructions match $2, want $([ "$3" = no ] && echo none || echo some)" >&2
    failed=1
  fi
}
if [ "$2" = x64 ]; then
  # AVX wherever it comes from (also in 128 bits, whose names begin with v), but in the kernels compiled for it.
  for target in runtime kernels_portable birkhoff; do expect $target '%[yz]mm|[[:space:]]v[a-z0-9]+ .*%xmm' no; done
  [ ! -d "$objects/cuda_kernels.dir" ] || expect cuda_kernels '%[yz]mm|[[:space:]]v[a-z0-9]+ .*%xmm' no
  expect kernels_avx2 '%zmm' no
  expect kernels_avx2 'vfmadd.*%ymm' yes
  expect kernels_avx512 'vfmadd.*%zmm' yes
else
  expect kernels_neon 'fmla[[:space:]]+v[0-9]+\.4s' yes
  # Scalable vectors, and atomics of ARMv8.1, that a Raspberry Pi 4 lacks.
  for target in runtime kernels_neon birkhoff; do
    expect $target '[[:space:]]z[0-9]+\.|[[:space:]](cas|swp|ld(add|clr|set|eor))(a|l|al)?[[:space:]]' no
  done
fi
exit $failed
