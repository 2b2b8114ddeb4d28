"""The schedule explorer finds bugs: each one planted into a copy of the protocol's headers.

A plant replaces a text that must be there exactly once, so it cannot silently miss. The headers
themselves carry no switches.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug, the case that shows it, and the property that it breaks."""

    name: str
    header: str
    text: str
    instead: str
    case: str
    breaks: str


PLANTS = [
    Plant(
        "reader does not compare the version",
        "set_read.hpp",
        "if ((seq & 1) != 0 || Tag::ver_of(seq) != found.tag.ver()) return ReadEnd::kRaced;",
        "if ((seq & 1) != 0) return ReadEnd::kRaced;",
        "versions of slots wrap",
        "a row that was read is published",
    ),
    Plant(
        "visited bit set by a plain store",
        "set_read.hpp",
        """  std::uint32_t expected = tag.word();
  set.line->tags[way].compare_exchange_strong(expected, tag.with(hints).word(),
                                              std::memory_order_relaxed);""",
        "  set.line->tags[way].store(tag.with(hints).word(), std::memory_order_relaxed);",
        "overwrite beside overwrite",
        "a tag changes only as the word announces",
    ),
    Plant(
        "slot published before the row is copied",
        "set_write.hpp",
        """  detail::fill(set.slot(slot), entry, about, claim.order, seal(about));
  if (!detail::publish(set, entry, slot, budget, choose, result)) {""",
        """  const bool is_published = detail::publish(set, entry, slot, budget, choose, result);
  detail::fill(set.slot(slot), entry, about, claim.order, seal(about));
  if (!is_published) {""",
        "overwrite beside overwrite",
        "a published slot is complete",
    ),
    Plant(
        "slot not marked while it is filled",
        "set_write.hpp",
        "  A::open_write(slot->seq, odd);                        // (2)\n",
        "",
        "overwrite twice beside reader",
        "a row that was read is not torn",
    ),
    Plant(
        "helper does not read the word again",
        "set_help.hpp",
        "  if (A::reread(set.line->word) != word.word()) return;  // (2)\n",
        "",
        "removal beside put",
        "a tag changes only as the word announces",
    ),
    Plant(
        "removal writes an empty tag",
        "set_help.hpp",
        "wanted = now.without(Tag::kValid);",
        "wanted = Tag();",
        "removals beside insertion",
        "a tag changes only as the word announces",
    ),
    Plant(
        "writer takes any change of the word for its own end",
        "set_help.hpp",
        "now.announces_as(announced)",
        "now == announced",
        "puts that give up beside puts",
        "a finished put is published",
    ),
    Plant(
        "claim kept by a put that gives up",
        "set_write.hpp",
        "    set.line->word.fetch_add(SetWord::release_of(slot), std::memory_order_acq_rel);\n",
        "",
        "puts that give up beside puts",
        "no claim is left but one named by a stopped writer",
    ),
    Plant(
        "claim noted after it is made",
        "set_write.hpp",
        """    log.note(slot);  // (4)
    const SetWord claimed = word.with_claim(slot);
    if (!exchange_word(*set.line, word, claimed)) continue;
""",
        """    const SetWord claimed = word.with_claim(slot);
    if (!exchange_word(*set.line, word, claimed)) continue;
    log.note(slot);
""",
        "writer killed",
        "no claim is left but one named by a stopped writer",
    ),
    Plant(
        "reaper trusts the note",
        "reap.hpp",
        "if (named.names(note.set(), note.slot()) && is_living(other)) return ReapEnd::kLater;",
        "(void)named;",
        "writer killed",
        "a claim is released by its writer, or after its death",
    ),
    Plant(
        "reaper does not ask for the owner after the note",
        "reap.hpp",
        "if (!note.active() || is_living(dead)) return ReapEnd::kNothing;",
        "if (!note.active()) return ReapEnd::kNothing;",
        "journal line taken over",
        "no claim is left but one named by a stopped writer",
    ),
]


def build(folder: Path, plant: Plant | None) -> Path:
    """The explorer over the headers as they are, or with one bug."""
    headers = folder / "csrc"
    headers.mkdir(parents=True)
    for header in CSRC.glob("*.hpp"):
        shutil.copy(header, headers)
    if plant is not None:
        patched = headers / plant.header
        source = patched.read_text()
        assert source.count(plant.text) == 1, f"{plant.header} no longer says: {plant.text}"
        patched.write_text(source.replace(plant.text, plant.instead))
    binary = folder / "explorer"
    compiler = os.environ.get("CXX", "c++")
    source_file = str(HERE / "explorer_test.cpp")
    command = [compiler, "-std=c++20", "-O1", f"-I{headers}", source_file, "-o", str(binary)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return binary


def explore(binary: Path, case: str) -> subprocess.CompletedProcess[str]:
    """The finished run of one case."""
    return subprocess.run([binary, "--only", case], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the explorer says of each plant, by its name."""
    folder = tmp_path_factory.mktemp("plants")

    def run(at: int) -> subprocess.CompletedProcess[str]:
        return explore(build(folder / str(at), PLANTS[at]), PLANTS[at].case)

    with ThreadPoolExecutor(2) as pool:
        return dict(
            zip([plant.name for plant in PLANTS], pool.map(run, range(len(PLANTS))), strict=True)
        )


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_planted_bug_is_found(
    plant: Plant, runs: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    run = runs[plant.name]
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"property: {plant.breaks}" in run.stdout
    binary, trace = run.args[0], run.stdout.split(f'--replay "{plant.case}" ')[1].split("\n")[0]
    again = subprocess.run(
        [binary, "--replay", plant.case, trace], capture_output=True, text=True, timeout=60
    )
    assert again.stdout.endswith("\n1 schedules\n")
    assert f"property: {plant.breaks}" in again.stdout


def test_without_a_plant_the_same_cases_hold(tmp_path: Path) -> None:
    binary = build(tmp_path / "whole", None)
    for case in sorted({plant.case for plant in PLANTS}):
        run = explore(binary, case)
        assert run.returncode == 0, run.stdout + run.stderr
