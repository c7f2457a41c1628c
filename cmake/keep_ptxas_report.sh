#!/bin/sh
# Runs a compiler; what ptxas says of each kernel (registers, spills) goes to <object>.ptxas and not to the terminal.
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" 2>"$object.ptxas"
status=$?
grep -Ev '^ptxas info|bytes stack frame' "$object.ptxas" >&2
exit $status
