import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.shard.order import sample_hashes, shard_count, shard_of


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 10_000))
def test_shards_are_ranges_of_the_hash(values, shards):
    hashes = np.sort(np.array(values, np.uint64))
    numbers = shard_of(hashes, shards)
    assert (np.diff(numbers) >= 0).all()
    assert ((numbers >= 0) & (numbers < shards)).all()


def test_shards_are_about_equal_and_the_order_depends_on_the_seed():
    urls = [f"http://host/{n}.jpg" for n in range(20_000)]
    sizes = np.bincount(shard_of(sample_hashes(urls, 0), 10))
    assert (abs(sizes - 2000) < 6 * np.sqrt(2000)).all()
    assert (np.argsort(sample_hashes(urls, 0)) != np.argsort(sample_hashes(urls, 1))).any()


def test_shard_count():
    assert [shard_count(n, 100) for n in (0, 1, 149, 151, 1000)] == [0, 1, 1, 2, 10]
