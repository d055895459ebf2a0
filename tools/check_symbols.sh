#!/usr/bin/env bash
# The functions that include/disco declares are those listed in tools/exported-symbols.txt, and so are the exports of
# the library, if one is given.
#   tools/check_symbols.sh [LIBRARY]
#   tools/check_symbols.sh --update      rewrite the list from the headers: a change of the ABI, so read the diff
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
list=$root/tools/exported-symbols.txt

declared() {
  cat "$root"/include/disco/*.h | tr '\n' ' ' | grep -oE '\bDISCO_API [^(;]*\(' |
    sed -nE 's/.*[ *](disco_[a-z0-9_]+)\($/\1/p' | sort -u
}
exported() { nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u; }

if [ "${1:-}" = --update ]; then
  declared >"$list"
  exit 0
fi

result=0
compare() { # compare WHAT FILE: FILE has the same lines as the list
  local difference
  if ! difference=$(diff "$list" "$2"); then
    echo "$1 differ from tools/exported-symbols.txt (< listed, > found):"
    echo "$difference"
    result=1
  fi
}
compare "the functions of include/disco" <(declared)
if [ $# -gt 0 ]; then compare "the exports of $1" <(exported "$1"); fi
[ $result = 0 ] && echo "$(wc -l <"$list") symbols, all as listed"
exit $result
