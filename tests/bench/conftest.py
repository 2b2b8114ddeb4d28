"""One state directory for all tests of the bench: models are trained once in a run."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PREDAWN_STATE points to a directory of this run."""
    folder = str(tmp_path_factory.mktemp("state"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREDAWN_STATE", folder)
        yield folder
