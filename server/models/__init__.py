"""Models: contract, reference architectures, snapshots, training."""
