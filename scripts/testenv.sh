#!/usr/bin/env bash
# Prints the environment of the tests that start virtual machines, for eval:
# usage: eval "$(scripts/testenv.sh [CACHE])"
#
# CACHE is where 'sbx setup' prepared the kernel and the template. Tests keep
# all else in directories of their own.
set -euo pipefail

cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/sbx}
if ! [ -s "$cache/kernels/default" ]; then
  echo "there is no kernel in $cache; run: make setup" >&2
  exit 1
fi
kernel=$cache/kernels/$(cat "$cache/kernels/default")
printf 'export SBX_TEST_CACHE=%q SBX_TEST_KERNEL=%q SBX_TEST_MODULES=%q\n' \
  "$cache" "$kernel/vmlinux" "$kernel/boot"
