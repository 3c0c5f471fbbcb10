import numpy as np

from openwit.schemas.common.hashing import GOLDEN, splitmix64, splitmix64_finalise

# Output of the reference implementation (prng.di.unimi.it/splitmix64.c) for the seed 1234567.
REFERENCE = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]


def test_it_is_the_reference() -> None:
    states = np.array([(1234567 + n * GOLDEN) % 2**64 for n in range(4)], np.uint64)
    assert splitmix64(states).tolist() == REFERENCE
    assert splitmix64(np.asarray(np.uint64(1234567))).tolist() == REFERENCE[0]
    with np.errstate(over="ignore"):
        assert splitmix64_finalise(states + np.uint64(GOLDEN)).tolist() == REFERENCE
