"""The schema as a tree."""

import pytest

from predawn.server.config_schema import (
    Free,
    Leaf,
    Named,
    Table,
    find,
    leaves,
    nearest_path,
    spelled,
)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("http.port", "other"),
        ("http.timeout", "duration"),
        ("http.body_limit", "size"),
        ("history.path", "path"),
        ("models.any.snapshot", "path"),
        ("http.host", "text"),
        ("log.format", "text"),
        ("models.any.default", "other"),
        ("models.any.options.depth", "other"),
    ],
)
def test_a_value_is_found_with_its_unit(path: str, unit: str) -> None:
    node = find(tuple(path.split(".")))
    assert isinstance(node, Leaf) and node.unit == unit


def test_tables_are_found_and_nothing_else_is() -> None:
    assert isinstance(find(()), Table) and isinstance(find(("http",)), Table)
    assert isinstance(find(("models",)), Named) and isinstance(find(("models", "x")), Table)
    assert isinstance(find(("models", "x", "options")), Free)
    for unknown in (("htp",), ("http", "port", "x"), ("models", "x", "y"), ("seed", "x")):
        assert find(unknown) is None


@pytest.mark.parametrize(
    ("unknown", "known"),
    [
        ("http.prot", "http.port"),
        ("htp.port", "http.port"),
        ("models.sum.dirct_ttl", "models.sum.direct_ttl"),
        ("sed", "seed"),
        ("stroe", "store"),
        ("zzz.qqq", None),
    ],
)
def test_the_nearest_path(unknown: str, known: str | None) -> None:
    assert nearest_path(tuple(unknown.split("."))) == known


def test_a_name_is_found_whatever_its_case_and_dashes() -> None:
    names = [("models", "My-Tower", "options", "Depth")]
    assert spelled(("HTTP", "Port"), names) == ("http", "port")
    assert spelled(("models", "my_tower", "wait"), names) == ("models", "My-Tower", "wait")
    assert spelled(("models", "my_tower", "options", "depth"), names) == names[0]
    assert spelled(("models", "other", "wait"), names) == ("models", "other", "wait")


def test_every_leaf_can_be_found() -> None:
    found = list(leaves())
    assert ("http", "port") in found and ("models", "NAME", "options") in found
    assert all(isinstance(find(path), Leaf | Free) for path in found)
