#!/usr/bin/env bash
# The runner of scripts/test notices failures: its functions are run on made-up stages, and must count right and end
# with the right status.
#   tests/tools/runner_test.sh PYTHON
set -euo pipefail
python=${1:?}
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/good.xml" <<'XML'
<testsuite><testcase name="a" status="run"><system-out>fine</system-out></testcase>
<testcase name="b" status="run"/></testsuite>
XML
cat >"$work/bad.xml" <<'XML'
<testsuite><testcase name="a" status="run"/>
<testcase name="b" status="fail"><failure message="Failed"/><system-out>boom</system-out></testcase>
<testcase name="c" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase></testsuite>
XML
echo '<testsuite></testsuite>' >"$work/empty.xml"

# A suite's command writes the JUnit file, as ctest does, and ends with a status.
write_and_exit() { # FROM TO STATUS
  cp "$work/$1" "$2"
  return "$3"
}
stage_good() { check "true is true" true && suite "good" "$work/out.xml" write_and_exit good.xml "$work/out.xml" 0; }
stage_command() { check "a failing command" false; }
stage_signal() { check "a killed command" bash -c 'kill -KILL $$'; }
stage_missing() { check "no such command" "$work/nothing"; }
stage_tests() { suite "failing tests" "$work/out.xml" write_and_exit bad.xml "$work/out.xml" 8; }
stage_silent() { suite "exit 0 in spite of a failure" "$work/out.xml" write_and_exit bad.xml "$work/out.xml" 0; }
stage_status() { suite "exit 1 without a failure" "$work/out.xml" write_and_exit good.xml "$work/out.xml" 1; }
stage_nothing() { suite "no test at all" "$work/out.xml" write_and_exit empty.xml "$work/out.xml" 0; }
stage_nofile() { suite "no result file" "$work/out.xml" true; }
stage_oops() { return 3; }
stage_idle() { :; }
stage_after() { check "the stage after a failed one runs" true; }

result=0
# expect STATUS "CLOSING LINE" STAGE...: in a process of its own, as scripts/test runs them
expect() {
  local want=$1 line=$2 status=0 last
  shift 2
  (
    set -euo pipefail
    logs=$work/logs
    # shellcheck source=scripts/lib/stages.sh
    . scripts/lib/stages.sh
    # shellcheck disable=SC2030
    export DISCO_STAGES=${selected:-}
    run_stages "$@"
    finish
  ) >"$work/output" 2>&1 || status=$?
  last=$(tail -n 1 "$work/output")
  if [ "$status" != "$want" ] || [ "$last" != "$line" ]; then
    echo "stages $*: expected exit $want and \"$line\", got exit $status and \"$last\""
    result=1
  fi
}

expect 0 "3 passed, 0 failed, 0 skipped" good
expect 1 "0 passed, 1 failed, 0 skipped" command
expect 1 "0 passed, 1 failed, 0 skipped" signal
expect 1 "0 passed, 1 failed, 0 skipped" missing
expect 1 "1 passed, 1 failed, 1 skipped" tests
grep -q boom "$work/output" || { echo "the output of a failed test is not shown"; result=1; }
expect 1 "1 passed, 1 failed, 1 skipped" silent
expect 1 "2 passed, 1 failed, 0 skipped" status
expect 1 "0 passed, 1 failed, 0 skipped" nothing
expect 1 "0 passed, 1 failed, 0 skipped" nofile
expect 1 "0 passed, 1 failed, 0 skipped" oops
expect 1 "0 passed, 0 failed, 0 skipped" idle
expect 1 "5 passed, 3 failed, 1 skipped" good command tests oops after
selected="after good" expect 0 "4 passed, 0 failed, 0 skipped" good command after
selected="nonsense" expect 2 "DISCO_STAGES names no stage \`nonsense\`; there are: good" good

# The real runner refuses to pass when asked for no stage that exists, and .ci/run is nothing but that runner.
grep -q 'exec scripts/test$' .ci/run || { echo ".ci/run does not end in scripts/test"; result=1; }
grep -qx 'finish' scripts/test || { echo "scripts/test does not end in finish"; result=1; }
[ $result = 0 ] && echo "the runner notices failures"
exit $result
