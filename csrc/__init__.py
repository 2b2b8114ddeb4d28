"""The native part: `predawn.csrc._core` (store, histograms, hashes) and `predawn.csrc._codec`."""
