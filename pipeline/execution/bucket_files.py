"""Name the files that a round writes, one per bucket, and find them again without listing a folder.

A store may list late what was written a moment ago, and a bucket without rows has no file: so a sum of the job says
which buckets were written.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from openwit.pipeline.execution.jobs import Addend, VectorSum

_WRITTEN = "written buckets"


def bucket_path(folder: Path, bucket: int) -> Path:
    """Return the path of the file of a bucket."""
    return folder / f"{bucket:05d}.parquet"


def written_buckets(buckets: int) -> VectorSum:
    """Return the sum of a job that says which of its buckets were written."""
    return VectorSum(_WRITTEN, buckets)


def written_bucket(bucket: int, buckets: int) -> Addend:
    """Return what a round adds to the sum when it has written a bucket."""
    return Addend(_WRITTEN, np.bincount([bucket], minlength=buckets))


def bucket_paths(folder: Path, sums: Mapping[str, np.ndarray]) -> list[Path]:
    """Return the files of the buckets that were written, in their order."""
    return [bucket_path(folder, bucket) for bucket in np.flatnonzero(sums[_WRITTEN]).tolist()]
