"""Builds the extensions; everything else is in pyproject.toml.

Switches, all by environment:
  PREDAWN_EXTENSIONS=core|layers|codec|torture|ledger|predictor|aggregates
                                  build one of them only (default: all); none: no extension
  PREDAWN_SANITIZE=address|thread|undefined   instrumented build
  PREDAWN_DEBUG=1                 no optimisation, assertions on
"""

import glob
import os
from collections.abc import Sequence

from Cython.Build import cythonize
from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup

WARNINGS = ["-Wall", "-Wextra"]


def flags() -> list[str]:
    """Compiler flags that the extensions share."""
    chosen = ["-std=c++20", "-fvisibility=hidden", *WARNINGS]
    if os.environ.get("PREDAWN_DEBUG"):
        chosen += ["-O0", "-g", "-UNDEBUG"]
    else:
        chosen += ["-O3", "-g1"]
    sanitizer = os.environ.get("PREDAWN_SANITIZE")
    if sanitizer:
        chosen += [f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-O1"]
    return chosen


def link_flags() -> list[str]:
    """Linker flags that the extensions share."""
    sanitizer = os.environ.get("PREDAWN_SANITIZE")
    return [f"-fsanitize={sanitizer}"] if sanitizer else []


def core() -> Extension:
    """The store, histograms and hashes."""
    sources = ["csrc/bindings.cpp", "csrc/bindings_cache.cpp", "csrc/bindings_pairs.cpp"]
    return _bound("_core", sources)


def layers() -> Extension:
    """What models do on the CPU for every request. Sums and products are fused only where the code
    says so: averages have the same bits on every machine."""
    sources = ["csrc/layers.cpp", "csrc/layers_first.cpp", "csrc/layers_ranker.cpp"]
    return _bound("_layers", sources, ["-ffp-contract=off"])


def predictor() -> Extension:
    """Which pairs are asked for next."""
    return _bound("_predictor", ["csrc/predictor.cpp"])


def aggregates() -> Extension:
    """What is known of items over all users."""
    return _bound("_aggregates", ["csrc/aggregates.cpp"])


def torture() -> Extension:
    """What `predawn bench torture` does to a store."""
    return _bound("_torture", ["csrc/torture.cpp"])


def ledger() -> Extension:
    """What became of the pairs that were computed ahead."""
    return _bound("_ledger", ["csrc/ledger.cpp"])


def _bound(name: str, sources: list[str], more: Sequence[str] = ()) -> Extension:
    """An extension over the headers (pybind11)."""
    return Pybind11Extension(
        f"predawn.csrc.{name}",
        sources,
        include_dirs=["csrc"],
        depends=glob.glob("csrc/*.hpp"),
        extra_compile_args=[*flags(), "-Wconversion", *more],
        extra_link_args=link_flags(),
    )


def codec() -> list[Extension]:
    """Request bytes to arrays and back (Cython). The generated C++ goes to build/, not csrc/."""
    extension = Extension(
        "predawn.csrc._codec",
        ["csrc/_codec.pyx"],
        include_dirs=["csrc"],
        depends=glob.glob("csrc/*.hpp"),
        language="c++",
        extra_compile_args=flags(),
        extra_link_args=link_flags(),
    )
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False}
    return cythonize(
        [extension],
        build_dir="build/cython",
        include_path=["csrc"],
        compiler_directives=directives,
    )


def extensions() -> list[Extension]:
    """What PREDAWN_EXTENSIONS asks for."""
    only = os.environ.get("PREDAWN_EXTENSIONS", "")
    bound = {
        "core": core,
        "layers": layers,
        "ledger": ledger,
        "predictor": predictor,
        "torture": torture,
        "aggregates": aggregates,
    }
    chosen = [make() for name, make in bound.items() if only in ("", name)]
    return chosen + (codec() if only in ("", "codec") else [])


setup(ext_modules=extensions())
