"""Every native peer gives back what it was filled with; several live in one process."""

from contextlib import ExitStack

import numpy as np

from predawn.bench import peers_native
from predawn.bench.store_tables import ids_of, rows_of


def test_peers_read_what_they_were_filled_with_beside_one_another() -> None:
    ids, rows = ids_of(5_000), rows_of(5_000, peers_native.DIM)
    with ExitStack() as stack:
        peers = stack.enter_context(peers_native.opened(ids, rows))
        assert set(peers.readers) | set(peers.absent) == set(peers_native.PEERS)
        asked = np.random.default_rng(1).integers(0, len(ids), (3, 100))
        for name, reader in peers.readers.items():
            read = reader.of(ids[asked])
            for i, positions in enumerate(asked):
                expected = rows[positions]
                found = read(i)
                if name in peers_native.UNORDERED:
                    expected, found = np.sort(expected, axis=0), np.sort(found, axis=0)
                assert np.array_equal(found, expected), name
