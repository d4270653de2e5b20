#!/usr/bin/env bash
# Prints the environment of the tests that start virtual machines, for eval:
# usage: scripts/testenv.sh [CACHE]
set -euo pipefail
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/sbx}
printf 'export SBX_TEST_CACHE=%q\n' "$cache"
