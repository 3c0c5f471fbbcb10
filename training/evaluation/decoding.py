"""Decode the images of a set into batches of pixels; the next batch is decoded while the last is used."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import NetworkError
from openwit.training.data.loader import IMAGE_ERRORS
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sampling import sample_rng
from openwit.training.data.transforms import ImageTransform


class Pictured(Protocol):
    """A sample with an encoded image."""

    @property
    def key(self) -> str:
        """Return its name."""
        ...

    @property
    def image(self) -> bytes:
        """Return the image as stored in the file."""
        ...


S_co = TypeVar("S_co", bound=Pictured, covariant=True)
S = TypeVar("S", bound=Pictured)


class Readable(Protocol[S_co]):
    """Samples by index."""

    def __len__(self) -> int: ...
    def key(self, index: int) -> str:
        """Return the name of a sample, without reading it."""
        ...

    def sample(self, index: int) -> S_co:
        """Read a sample; raises CorruptSampleError."""
        ...


class Decoded(NamedTuple, Generic[S]):
    """A sample that could be read.

    Attributes:
        number: of the sample in its set.
        pixels: (size, size, 3) bytes.
        sample: the sample itself, with all other data.
    """

    number: int
    pixels: NDArray[np.uint8]
    sample: S


def decoded_batches(
    readable: Readable[S], transform: ImageTransform, size: int, batch_size: int, numbers: Sequence[int | None]
) -> Iterator[tuple[list[Decoded[S]], list[str]]]:
    """Yield batches of the samples 0 to `size` with the keys of those that cannot be read.

    Args:
        readable: the samples.
        transform: of their images.
        size: number of samples.
        batch_size: samples in a batch.
        numbers: batches to yield, in order; None: an empty one.
    """

    def load(number: int | None) -> tuple[list[Decoded[S]], list[str]]:
        loaded: list[Decoded[S]] = []
        bad: list[str] = []
        start = size if number is None else number * batch_size
        indices = range(start, min(start + batch_size, size))
        with opened(readable, indices) as read:
            for index in indices:
                try:
                    sample = read(index)
                    pixels = transform(sample.image, sample_rng(0, 0, sample.key))
                except NetworkError:
                    raise
                except (CorruptSampleError, *IMAGE_ERRORS):
                    bad.append(readable.key(index))
                    continue
                loaded.append(Decoded(index, pixels, sample))
        return loaded, bad

    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(load, number) for number in numbers[:1]]
        for place in range(len(numbers)):
            loaded = following.pop().result()
            following = [pool.submit(load, number) for number in numbers[place + 1 : place + 2]]
            yield loaded


def opened(readable: Readable[S], indices: Sequence[int]) -> AbstractContextManager[Callable[[int], S]]:
    """Return a context in which samples can be read, several at once where the set can do that."""
    reading = getattr(readable, "reading", None)
    if reading is None:
        return nullcontext(readable.sample)
    found: AbstractContextManager[Callable[[int], S]] = reading([(0, index) for index in indices])
    return found
