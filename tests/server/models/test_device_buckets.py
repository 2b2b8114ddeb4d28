"""Few sizes, none much too large."""

import pytest

from predawn.server.models.device_buckets import ROW_BUCKETS, bucket_of, buckets_for


def test_every_number_of_rows_has_the_smallest_bucket_that_holds_it() -> None:
    assert ROW_BUCKETS[:5] == (64, 96, 128, 192, 256) and ROW_BUCKETS[-1] == 8192
    for rows in range(1, 8193):
        bucket = bucket_of(rows)
        assert bucket >= rows and all(each < rows for each in ROW_BUCKETS if each < bucket)
        assert bucket == 64 or bucket <= 1.5 * rows + 1


def test_padding_costs_eighteen_per_cent_on_average_where_sizes_are_even_on_a_log_scale() -> None:
    sizes = [round(64 * (8192 / 64) ** (step / 2000)) for step in range(1, 2001)]
    padding = sum(bucket_of(size) / size - 1 for size in sizes) / len(sizes)
    assert 0.14 < padding < 0.24


def test_a_limit_names_the_buckets_below_it() -> None:
    assert buckets_for(1) == buckets_for(64) == (64,)
    assert buckets_for(65) == (64, 96)
    assert buckets_for(8192) == buckets_for(10_000) == ROW_BUCKETS
    with pytest.raises(ValueError, match="8193 rows are more than the largest bucket, 8192"):
        bucket_of(8193)
