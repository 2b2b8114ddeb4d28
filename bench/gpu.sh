#!/usr/bin/env bash
# bench/gpu.sh OUTDIR: are the kernels right on this GPU, and how fast? In under 8 minutes. Writes
# OUTDIR/gpu.json (figures), OUTDIR/checks.json (memory checkers, tests) and what those printed.
# Needs an NVIDIA GPU, a python3 with torch, triton, numpy and the build tools, and no network:
# the tree is used as it stands, its extensions built in place.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:?usage: bench/gpu.sh OUTDIR}
python=${PYTHON:-python3}

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "predawn: bench/gpu.sh needs an NVIDIA GPU: nvidia-smi lists none" >&2
  exit 2
fi
export PYTHONPATH="$PWD/.ci/typing${PYTHONPATH:+:$PYTHONPATH}"
"$python" setup.py --quiet build_ext --inplace --parallel 8
"$python" -c "from predawn.csrc import _codec, _core, _layers; print('extensions: built')"
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo "")
status=0
"$python" -m predawn.bench.gpu "$out" "$commit" || status=$?
[ "$status" -ne 2 ] || exit 2
"$python" -m predawn.bench.gpu_checks "$out" "$((465 - SECONDS))" || status=1
exit "$status"
