"""The phases of a torture: each makes a store as it says."""

from pathlib import Path

import pytest

from predawn.bench.torture_phases import PHASES
from predawn.csrc import _torture
from predawn.csrc._core import EmbeddingCache


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_makes_an_empty_store_of_its_size(name: str, tmp_path: Path) -> None:
    phase = PHASES[name]
    store, oracle = str(tmp_path / "store"), str(tmp_path / "oracle")
    phase.create(store, oracle, 4, 1)
    with EmbeddingCache.attach(store) as cache:
        assert phase.capacity <= cache.capacity < phase.capacity + 14
        assert cache.stats()["entries"] == 0
    supervisor = _torture.Supervisor(store, oracle, 1)
    assert supervisor.beats() == [0] * 4 and supervisor.totals()["reads"] == 0


def test_some_phase_is_hard_in_each_of_the_ways() -> None:
    phases = list(PHASES.values())
    assert any(phase.crowd and phase.twins for phase in phases)
    assert any(phase.capacity == 14 and phase.keys > 14 for phase in phases)
    assert any(phase.floors_in and phase.expires for phase in phases)
    assert any(phase.is_paced for phase in phases)
    assert all(phase.shared for phase in phases)


def test_too_many_keys_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    phase = replace(PHASES["steady"], keys=10**6)
    with pytest.raises(ValueError, match="keys: at most"):
        phase.create(str(tmp_path / "store"), str(tmp_path / "oracle"), 4, 1)
