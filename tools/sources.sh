#!/usr/bin/env bash
# The C and C++ files of the tree, one a line.
set -euo pipefail
cd "$(dirname "$0")/.."
find src include cli examples bench plugins tests -type f \
  \( -name '*.c' -o -name '*.h' -o -name '*.cc' -o -name '*.hpp' \) 2>/dev/null | LC_ALL=C sort || true
