"""Memory of the benchmarks is aligned, huge where it was asked for, and given back."""

from pathlib import Path

import pytest

from predawn.bench import compiled

SOURCE = """
#include "huge_memory.hpp"
using namespace predawn::bench;
extern "C" int aligned(int huge) {
  const Pages pages(3 * kHugePage + 1, huge != 0);
  pages.start()[pages.bytes() - 1] = std::byte{1};
  return pages.bytes() == 4 * kHugePage &&
         reinterpret_cast<std::uintptr_t>(pages.start()) % kHugePage == 0;
}
extern "C" int lives_in_containers() {
  int sum = 0;
  {
    std::vector<int, HugeAllocator<int>> large;
    std::vector<short, HugeAllocator<short>> small(100, short{1});
    for (int i = 0; i < 2'000'000; ++i) large.push_back(i % 2);
    for (const int each : large) sum += each;
    for (const short each : small) sum += each;
  }
  chunks().release_all();
  return sum;
}
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program above beside a copy of the header."""
    header = compiled._NATIVE / "huge_memory.hpp"
    (tmp_path / header.name).write_text(header.read_text())
    (tmp_path / "memory.cpp").write_text(SOURCE)
    monkeypatch.setattr(compiled, "_NATIVE", tmp_path)


@pytest.mark.usefixtures("source")
def test_pages_are_aligned_and_whole() -> None:
    library = compiled.library("memory")
    assert library.aligned(0) and library.aligned(1)


@pytest.mark.usefixtures("source")
def test_containers_grow_in_huge_memory() -> None:
    assert compiled.library("memory").lives_in_containers() == 1_000_100
