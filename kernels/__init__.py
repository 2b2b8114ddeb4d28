"""An operation: contract, torch reference, host wrapper; beside it (`*_triton`) its kernel."""
