#!/usr/bin/env bash
# Runs tests against two builds of the addon: AddressSanitizer + UndefinedBehaviorSanitizer + LeakSanitizer, and ThreadSanitizer.
# Any report of any process, child processes included, fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

# One instruction set is enough, and saves two thirds of the compilation.
build() {  # folder, sanitizers
  cmake -S . -B "$1" -DBIRKHOFF_SANITIZE="$2" -DBIRKHOFF_LEVELS="${LEVELS:-avx2}" >"$1.log" 2>&1 &&
    cmake --build "$1" --parallel "$jobs" >>"$1.log" 2>&1 || { tail -40 "$1.log"; exit 1; }
  rm -f "$1.log" "$1"/report.*
}
build build-asan address,undefined,float-cast-overflow
build build-tsan thread

# The programs as plain JavaScript: a loader thread for TypeScript would only add to what the sanitizers watch.
programs=build-asan/programs
node_modules/.bin/esbuild test/native/programs/*.ts --bundle --platform=node --format=esm --packages=external \
  --outdir=$programs --out-extension:.js=.mjs --log-level=warning

# A report goes to a file whatever becomes of the process that made it; so a lost exit code hides nothing.
check() {  # folder, exit code, name
  local failed=$2
  if compgen -G "$1/report.*" >/dev/null; then
    cat "$1"/report.* && rm -f "$1"/report.*
    failed=1
  fi
  if [ "$failed" -ne 0 ]; then
    echo "sanitize: $3 failed (exit code $2)"
    exit 1
  fi
  echo "sanitize: $3 passed"
}

with_asan() {  # leak detection 0|1, name, command...
  local leaks=$1 name=$2 code=0
  shift 2
  BIRKHOFF_ADDON=$PWD/build-asan/birkhoff.node LD_PRELOAD=$(g++ -print-file-name=libasan.so) \
    ASAN_OPTIONS="detect_leaks=$leaks:allocator_may_return_null=1:log_path=$PWD/build-asan/report" \
    UBSAN_OPTIONS="print_stacktrace=1:log_path=$PWD/build-asan/report" \
    NODE_OPTIONS=--disable-wasm-trap-handler "$@" || code=$?
  check build-asan $code "$name"
}

with_tsan() {  # name, command...
  local name=$1 code=0
  shift
  BIRKHOFF_ADDON=$PWD/build-tsan/birkhoff.node LD_PRELOAD=$(g++ -print-file-name=libtsan.so) \
    TSAN_OPTIONS="ignore_noninstrumented_modules=1:log_path=$PWD/build-tsan/report" "$@" || code=$?
  check build-tsan $code "$name"
}

program() { node --no-warnings --expose-gc "$programs/$1.mjs" "${@:2}"; }

# Leaks are looked for in plain node: the test runner's own addon has some. Nor after process.exit: node leaves its heap then.
with_asan 1 "asan: wrong arguments" program fuzz_boundary 500 3
with_asan 1 "asan: every op, changing thread counts" program pool
with_asan 0 "asan: process.exit with work queued" program exit_with_work
with_asan 0 "asan: workers terminated" program workers 8 0 0
with_asan 0 "asan: tests of ops and the native core" node_modules/.bin/vitest run --reporter=dot \
  test/ops test/native/out_of_memory.test.ts test/native/allocator.test.ts test/native/shapes.test.ts

with_tsan "tsan: every op, changing thread counts" program pool
with_tsan "tsan: process.exit with work queued" program exit_with_work
with_tsan "tsan: workers that share the runtime" program workers 8 1 1
with_tsan "tsan: workers terminated, runtime stopped and started" program workers 8 0 0
echo "sanitize: no reports"
