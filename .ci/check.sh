#!/usr/bin/env bash
# Runs the named groups of checks (style, types, tests) in order and stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

step() {
  local name=$1 begin=$SECONDS
  shift
  "$@" || {
    echo "predawn: $name failed ($*)" >&2
    exit 1
  }
  echo "predawn: $name ok, $((SECONDS - begin)) s"
}

quietly() {
  local log
  log=$("$@" 2>&1) || {
    echo "$log"
    return 1
  }
}

style() {
  shopt -s nullglob
  step "ruff check" ruff check --quiet .
  step "ruff format" ruff format --quiet --diff .
  step "clang-format" clang-format --dry-run -Werror csrc/*.cpp csrc/*.hpp tests/csrc/*.cpp
}

# The two type checkers take a core each, and nothing else runs beside them.
types() {
  step "mypy" quietly mypy &
  step "basedpyright" quietly basedpyright &
  wait -n && wait -n || { wait; exit 1; }
  step "import-linter" quietly lint-imports
}

# A file's tests stay together: what they share is made once.
tests() {
  local cores
  cores=$(nproc)
  step "pytest" pytest -q -n "$((cores < 8 ? cores : 8))" --dist loadfile
}

for group in "$@"; do
  "$group"
done
