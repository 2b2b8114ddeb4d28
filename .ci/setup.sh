#!/usr/bin/env bash
# Makes .venv and installs predawn into it, editable, with developer tools. Its extensions are built
# beside their sources afterwards, by `make build`: here they would be built twice.
# Invariant: torch is never resolved freely. Without an NVIDIA GPU exactly one version is asked
# for; with one, the supported range, whose wheel brings the Triton that it was built with.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "predawn: $*" >&2
  exit 1
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    recent "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11 or newer"
    echo "$PYTHON"
    return
  fi
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if recent "$name"; then
      echo "$name"
      return
    fi
  done
  fail "needs Python 3.11 or newer (found: $(python3 --version 2>&1 || echo none)); set PYTHON="
}

check_build_tools() {
  command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null \
    || fail "needs a C++20 compiler (g++ 12 or clang 15 and newer) on PATH, or CXX="
  local headers
  headers=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$headers/Python.h" ] || fail "needs Python's headers: $headers/Python.h is missing"
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

python=$(find_python)
check_build_tools "$python"
if ! recent .venv/bin/python; then
  rm -rf .venv
  "$python" -m venv .venv || fail "$python has no working venv module (Debian: python3-venv)"
fi

if has_gpu; then
  requirements=("torch>=2.11,<2.14")
else
  requirements=("torch==2.13.0" "triton==3.7.1")
fi
echo "predawn: installing into .venv (${requirements[*]}); the first time takes minutes"
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
mapfile -t builders < <(.venv/bin/python -c '
import pathlib, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
print(*project["build-system"]["requires"], sep="\n")')
"${pip[@]}" "${builders[@]}" "${requirements[@]}"
# Without isolation the compiler of the extensions stays the one that `make build` uses later.
PREDAWN_EXTENSIONS=none "${pip[@]}" --no-build-isolation -e '.[dev]'
