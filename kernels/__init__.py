"""One file an operation: contract, torch reference, Triton kernel, host wrapper."""
