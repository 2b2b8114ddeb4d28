"""The limit of a layer is the slower of its products and its bytes, a piece of work at a time."""

from predawn.bench import limits_layers


def test_the_slower_of_two_is_the_limit() -> None:
    many_products = limits_layers.slowest(10_000_000, 64, work=7)
    many_bytes = limits_layers.slowest(64, 10_000_000, work=7)
    assert many_products is not None and many_products.name == "10000000 products"
    assert many_bytes is not None and many_bytes.name == "10000000 bytes read"
    assert many_products.work == many_bytes.work == 350
    many_products.call()
    many_bytes.call()
