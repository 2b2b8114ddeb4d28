"""The C++ of bench/native as libraries, compiled for this machine at their first use.

A library lies in the state directory under a name made of all that goes into it: what changes is
compiled again, what does not is there at once. `Missing` says why a machine cannot have one.
"""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from predawn.bench.harness import BenchError
from predawn.bench.prepare import state_dir

_ROOT = Path(__file__).resolve().parent.parent
_NATIVE, _CSRC = _ROOT / "bench" / "native", _ROOT / "csrc"
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-pthread", "-shared", "-fPIC", "-I", "csrc")
_REASONS = (
    re.compile(r"fatal error: '?([^':]+)'?(?:: No such file| file not found)"),
    re.compile(r"error: #?(?:error )?\"?(needs [^\"\n]*)"),
    re.compile(r"cannot find (-l\w+)"),
)


class Missing(Exception):
    """This machine cannot compile a library: no compiler, or something that it includes."""


def library(name: str, *more: str) -> ctypes.CDLL:
    """bench/native/`name`.cpp, compiled with `more` flags. Missing; BenchError when it is wrong."""
    return ctypes.CDLL(str(_built(name, more)))


@functools.cache
def _compiler() -> tuple[str, str]:
    """Path and version, which is part of what is compiled."""
    found = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if found is None:
        raise Missing("no C++ compiler")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    return found, said.stdout


def _built(name: str, more: tuple[str, ...]) -> Path:
    source = _NATIVE / f"{name}.cpp"
    if not source.is_file():
        raise Missing("needs the source tree")
    compiler, version = _compiler()
    flags = (*_FLAGS, *more)
    folder = state_dir() / "native"
    target = folder / f"{name}-{_digest(source, version, flags)}.so"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / target.name
            _compile([compiler, str(source), "-o", str(fresh), *flags], name)
            fresh.replace(target)
    return target


def _digest(source: Path, version: str, flags: tuple[str, ...]) -> str:
    text = hashlib.sha256(f"{version}{flags}{os.environ.get('CPLUS_INCLUDE_PATH')}".encode())
    for part in _parts(source):
        text.update(part)
    return text.hexdigest()[:16]


def _parts(source: Path) -> Iterator[bytes]:
    """The source and all headers of the project that it includes."""
    waiting, seen = [source], {source}
    while waiting:
        text = waiting.pop().read_bytes()
        yield text
        for name in _INCLUDE.findall(text.decode()):
            found = next((at / name for at in (_NATIVE, _CSRC) if (at / name).is_file()), None)
            if found is not None and found not in seen:
                seen.add(found)
                waiting.append(found)


def _compile(command: list[str], name: str) -> None:
    english = {**os.environ, "LC_ALL": "C"}  # what it says is read
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, env=english)
    if done.returncode == 0:
        return
    for reason in _REASONS:
        found = reason.search(done.stderr)
        if found is not None:
            said = found.group(1).strip()
            raise Missing(said if said.startswith("needs") else f"needs {said}")
    raise BenchError(f"bench/native/{name}.cpp does not compile:\n{done.stderr}")
