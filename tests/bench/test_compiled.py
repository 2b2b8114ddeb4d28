"""C++ of the bench is compiled once; what a machine lacks is said in a few words."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from predawn.bench import compiled
from predawn.bench.compiled import Missing
from predawn.bench.harness import BenchError


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of sources and a state directory, both empty."""
    monkeypatch.setattr(compiled, "_NATIVE", tmp_path)
    monkeypatch.setenv("PREDAWN_STATE", str(tmp_path / "state"))
    compiled._compiler.cache_clear()
    yield tmp_path
    compiled._compiler.cache_clear()


def _built(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "state" / "native").iterdir())


def test_a_library_is_compiled_once_and_again_when_it_changes(sources: Path) -> None:
    (sources / "one.cpp").write_text('extern "C" int one() { return 1; }\n')
    assert compiled.library("one").one() == 1
    first = _built(sources)
    compiled.library("one")
    assert _built(sources) == first
    (sources / "one.cpp").write_text('extern "C" int one() { return 2; }\n')
    assert compiled.library("one").one() == 2
    assert len(_built(sources)) == 2


def test_a_library_is_compiled_again_when_a_header_of_a_header_changes(sources: Path) -> None:
    (sources / "a.cpp").write_text('#include "b.hpp"\nextern "C" int value() { return kValue; }\n')
    (sources / "b.hpp").write_text('#include "c.hpp"\n')
    for value in (5, 6):
        (sources / "c.hpp").write_text(f"constexpr int kValue = {value};\n")
        assert compiled.library("a").value() == value


def test_flags_make_another_library(sources: Path) -> None:
    (sources / "flag.cpp").write_text('extern "C" int flag() { return FLAG; }\n')
    found = [compiled.library("flag", f"-DFLAG={i}") for i in (3, 4)]
    assert [library.flag() for library in found] == [3, 4]
    assert all(isinstance(library, ctypes.CDLL) for library in found)


@pytest.mark.parametrize(
    ("source", "flags", "said"),
    [
        ("#include <boost/absent.hpp>\n", (), "needs boost/absent.hpp"),
        ('#error "needs Boost 1.84 or newer"\n', (), "needs Boost 1.84 or newer"),
        ("int x;\n", ("-labsent",), "needs -labsent"),
    ],
)
def test_what_is_missing_is_named(
    sources: Path, source: str, flags: tuple[str, ...], said: str
) -> None:
    (sources / "a.cpp").write_text(source)
    with pytest.raises(Missing, match=f"^{said}$"):
        compiled.library("a", *flags)
    assert _built(sources) == []


def test_a_source_that_is_wrong_is_an_error(sources: Path) -> None:
    (sources / "wrong.cpp").write_text("int x = y;\n")
    with pytest.raises(BenchError, match=r"'y' was not declared|undeclared identifier 'y'"):
        compiled.library("wrong")


def test_without_a_compiler_it_is_missing(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "a.cpp").write_text("int x;\n")
    monkeypatch.setenv("PATH", str(sources))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(Missing, match="no C\\+\\+ compiler"):
        compiled.library("a")


def test_without_the_sources_it_is_missing(sources: Path) -> None:
    with pytest.raises(Missing, match="source tree"):
        compiled.library("nowhere")
