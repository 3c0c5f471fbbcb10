"""Read several captions of an image from one text member, a line each, as CLIP_benchmark's tars have them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openwit.training.data.sharded import Dataset, Place, Reading, Sample


class LineCaptions:
    """Samples of another set; each line of a text is a caption, unless the sample has a JSON member.

    Args:
        inner: the set.
    """

    def __init__(self, inner: Dataset) -> None:
        self._inner = inner
        self.name = inner.name
        self.split = inner.split
        self.folder: Path = inner.folder
        self.manifest_sha256 = inner.manifest_sha256

    def __len__(self) -> int:
        return len(self._inner)

    def key(self, index: int) -> str:
        """Return the key of a sample, without reading the sample."""
        return self._inner.key(index)

    def sample(self, index: int) -> Sample:
        """Read a sample; raises CorruptSampleError."""
        return self._split(index, self._inner.sample(index))

    def metadata(self, index: int) -> dict[str, Any]:
        """Return the JSON document of a sample; empty if the set has none. Raises CorruptSampleError."""
        read: Callable[[int], dict[str, Any]] | None = getattr(self._inner, "metadata", None)
        return {} if read is None else read(index)

    @contextmanager
    def reading(self, places: Sequence[Place]) -> Iterator[Reading]:
        """Return a context in which the samples of a batch can be read."""
        with self._inner.reading(places) as read:
            yield lambda index: self._split(index, read(index))

    def _split(self, index: int, sample: Sample) -> Sample:
        if len(sample.texts) != 1 or "\n" not in sample.texts[0].strip() or self.metadata(index):
            return sample
        lines = tuple(line.strip() for line in sample.texts[0].splitlines() if line.strip())
        return sample._replace(texts=lines)
