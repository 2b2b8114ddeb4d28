"""Which instructions this machine has for the native layers: tests go through all of them."""

from predawn.csrc._layers import ISA

_ALL = ("portable", "avx2+f16c", "avx512")
ISAS = _ALL[: _ALL.index(ISA) + 1] if ISA in _ALL else _ALL[:1]
