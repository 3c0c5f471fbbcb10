import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.select.dead import Dead, read_dead, write_dead

HASHES = st.lists(st.integers(0, 9), max_size=6).map(lambda found: np.array(found, np.uint64))


@given(dead=st.builds(Dead, HASHES, HASHES, HASHES), urls=HASHES, pairs=HASHES)
def test_a_pair_is_dead_by_its_url_or_itself_unless_it_is_kept(dead, urls, pairs):
    n = min(len(urls), len(pairs))
    expected = [
        (u in dead.urls or p in dead.pairs) and p not in dead.kept for u, p in zip(urls[:n], pairs[:n], strict=True)
    ]
    assert dead.mask(urls[:n], pairs[:n]).tolist() == expected


def test_a_list_is_read_as_it_was_written(tmp_path):
    dead = Dead(*(np.array(values, np.uint64) for values in ([5, 1], [], [2**64 - 1])))
    write_dead(tmp_path / "dead.parquet", dead)
    assert [found.tolist() for found in read_dead(str(tmp_path / "dead.parquet"))] == [[1, 5], [], [2**64 - 1]]
