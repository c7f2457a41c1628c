#!/usr/bin/env bash
# What a published addon must keep to, read from its file. check.sh file.node…
set -euo pipefail
failed=0
for file in "$@"; do
  bytes=$(stat -c %s "$file")
  needed=$(readelf -d "$file" | grep -oP 'NEEDED.*\[\K[^]]+' | tr '\n' ' ')
  versions=$({ readelf -VW "$file" | grep -oE '(GLIBCXX|CXXABI|GCC)_[0-9.]+' || true; } | sort -uV | tr '\n' ' ')
  glibc=$(readelf -VW "$file" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)
  symbols=$(readelf --dyn-syms -W "$file" | awk '$5 != "LOCAL" && $7 != "UND" && NR > 3 { print $8 }' | sort | tr '\n' ' ')
  echo "$file: $bytes bytes, $glibc, needs $needed"
  refuse() { echo "  $1" >&2; failed=1; }
  [ "$bytes" -le 9000000 ] || refuse "larger than 9000000 bytes"
  [ "$(printf '%s\nGLIBC_2.28\n' "$glibc" | sort -V | tail -1)" = GLIBC_2.28 ] || refuse "needs $glibc, want at most GLIBC_2.28"
  [ -z "$versions" ] || refuse "needs $versions, want none of the C++ run-time library"
  for library in $needed; do
    [[ $library =~ ^(libc|libm|libdl|libpthread|librt|ld-linux-(x86-64|aarch64))\.so\.[0-9]$ ]] || refuse "needs $library, want glibc's alone"
  done
  [ "$symbols" = "napi_register_module_v1 node_api_module_get_api_version_v1 " ] ||
    refuse "exports $(wc -w <<<"$symbols") symbols, want the two of Node-API: ${symbols:0:200}"
  ! readelf -SW "$file" | grep -qE '\.(symtab|debug_info)' || refuse "is not stripped"
done
exit $failed
