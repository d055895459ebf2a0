#!/usr/bin/env bash
# Each header compiles alone: the public ones as C11 and as C++17, the C++ face as C++17, those of src/ as C11.
#   tools/check_headers.sh PYTHON        PYTHON has apache-tvm-ffi
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
tvm_ffi=$("$python" -m tvm_ffi.config --includedir)
flags=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only -isystem "$tvm_ffi" -Iinclude)
result=0

alone() { # alone HEADER COMPILER FLAGS...
  local header=$1
  shift
  # Twice: an include guard that does not guard shows here.
  printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$header" "$header" | "$@" "${flags[@]}" - || {
    echo "$header does not compile alone with $*"
    result=1
  }
}

count=0
for path in include/disco/*.h; do
  header=${path#include/}
  alone "$header" gcc -std=c11 -x c
  alone "$header" g++ -std=c++17 -x c++
  count=$((count + 1))
done
while IFS= read -r path; do
  alone "${path#include/}" g++ -std=c++17 -Iinclude/disco/cpp -x c++
  count=$((count + 1))
done < <(find include/disco/cpp -name '*.h' | sort)
while IFS= read -r path; do
  alone "${path#src/}" gcc -std=c11 -D_GNU_SOURCE= -Isrc -x c
  count=$((count + 1))
done < <(find src -name '*.h' ! -name '*_test.h' | sort)
echo "$count headers"
exit $result
