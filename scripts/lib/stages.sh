# shellcheck shell=bash
# shellcheck disable=SC2154  # logs and python are the caller's
# Stages of scripts/test: run them, time them, count what they tested. Sourced, with $logs (a folder) and $python set.
#
# A stage is a function stage_<name>. Inside, `check` runs a command that is one test, `suite` a test runner that
# writes JUnit XML. A stage that fails in any other way counts as one failed test; nothing stops the next stage.
# tests/tools/runner_test.sh proves that failures are noticed.

passed=0 failed=0 skipped=0
current_stage=none

# log_of LABEL: where the output of a check goes
log_of() { echo "$logs/$current_stage-${1//[^a-zA-Z0-9]/-}.log"; }

# show_log FILE: the end of a failed check's output, indented
show_log() { tail -n 60 "$1" | sed 's/^/      /'; }

# check LABEL COMMAND...: one test. Returns the command's verdict, so that a stage can stop after it.
check() {
  local label=$1 log
  shift
  log=$(log_of "$label")
  if "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    echo "   ok    $label"
  else
    failed=$((failed + 1))
    echo "   FAIL  $label"
    printf '      $ %.160s\n' "$*"
    show_log "$log"
    return 1
  fi
}

# suite LABEL JUNIT-FILE COMMAND...: as many tests as the file says. A runner that fails without naming a failed test,
# or runs none, is a failed test.
suite() {
  local label=$1 junit=$2 log verdict=0 p=0 f=0 s=0
  shift 2
  log=$(log_of "$label")
  rm -f "$junit"
  "$@" >"$log" 2>&1 </dev/null || verdict=$?
  read -r p f s < <("$python" tools/count_results.py "$junit" 2>>"$log") || true
  if [ $((p + f + s)) -eq 0 ]; then
    echo "   FAIL  $label: ran no test (exit $verdict)"
    show_log "$log"
    f=1
  elif [ "$f" -gt 0 ]; then
    echo "   FAIL  $label: $f of $((p + f + s)) tests"
    "$python" tools/count_results.py --show "$junit"
  elif [ "$verdict" -ne 0 ]; then
    echo "   FAIL  $label: exit $verdict, though no test failed"
    show_log "$log"
    f=1
  else
    echo "   ok    $label: $p tests$([ "$s" -eq 0 ] || echo ", $s skipped")"
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  [ "$f" -eq 0 ]
}

# run_stages NAME...: those that DISCO_STAGES names, or all. An unknown name there is an error.
run_stages() {
  local name start before
  for name in ${DISCO_STAGES:-}; do
    case " $* " in *" $name "*) ;; *)
      echo "DISCO_STAGES names no stage \`$name\`; there are: $*" >&2
      exit 2
      ;;
    esac
  done
  mkdir -p "$logs"
  for name in "$@"; do
    case " ${DISCO_STAGES:-$*} " in *" $name "*) ;; *) continue ;; esac
    start=$SECONDS before=$failed current_stage=$name
    echo "== $name"
    if ! "stage_$name" && [ "$failed" -eq "$before" ]; then
      echo "   FAIL  stage $name ended with an error"
      failed=$((failed + 1))
    fi
    echo "== $name ... $((SECONDS - start)) s"
  done
}

# finish: the closing lines; false if anything failed or nothing ran.
finish() {
  echo "total: $SECONDS s"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] && [ $((passed + failed)) -gt 0 ]
}
