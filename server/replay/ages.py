"""Ages for people."""

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


def age_text(age_ms: float) -> str:
    """An age in the unit that suits it: "1.5 h"."""
    for unit, size in _UNITS:
        if age_ms >= size:
            return f"{age_ms / size:.1f} {unit}"
    return f"{age_ms:.0f} ms"
