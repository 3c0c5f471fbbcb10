"""Write a shard of the format parquet or files again without some of its samples."""

from collections.abc import Mapping, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.layouts import Laid, folder_sum, laid_out, member_names, table_images
from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import ShardEntry
from openwit.schemas.tables.samples import image_endings


def filter_table(source: Path, base: Path, gone: Set[str]) -> tuple[Laid, pa.Table]:
    """Write the table BASE.parquet without some samples; return how it is laid out, and its rows of SAMPLES.

    Args:
        source: the table with them.
    """
    kept = []
    with laid_out(base, "parquet") as layout:
        for rows, images in table_images(source):
            keep = pc.invert(pc.is_in(rows.column("key"), pa.array(sorted(gone), pa.string())))
            left = rows.filter(keep)
            kept.append(left)
            if left.num_rows:
                layout.add(left, [image for image, stays in zip(images, keep.to_pylist(), strict=True) if stays])
        laid = layout.finish()
    return laid, pa.concat_tables(kept)


def filter_folder(
    store: DatasetStore, shard: ShardEntry, samples: pa.Table, gone: Mapping[str, str], *, resumed: bool
) -> str:
    """Delete the files of some samples; return the checksum of the folder that is left.

    Args:
        samples: those that stay, with their columns of SAMPLES.
        gone: keys of the others, each with the ending of its image.
        resumed: whether some may have been deleted before.

    Raises:
        DataError: the folder is not what the manifest says, before anything is deleted.
    """
    left, before = {}, {}
    keys, endings = samples.column("key").to_pylist(), image_endings(samples)
    removed = member_names(list(gone), list(gone.values()))
    for name in member_names(keys, endings):
        left[name] = _sum(store, shard, name)
    if not resumed:
        before = {name: _sum(store, shard, name) for name in removed}
        if folder_sum(left | before) != shard.tar.sha256:
            raise DataError(f"{store}/{shard.tar.path} does not match the manifest: verify the dataset and restore it")
    for name in removed:
        store.delete(f"{shard.tar.path}/{name}")
    return folder_sum(left)


def _sum(store: DatasetStore, shard: ShardEntry, name: str) -> str:
    path = f"{shard.tar.path}/{name}"
    try:
        with store.local(path) as local:
            return sha256_of(local)
    except FileNotFoundError:
        raise DataError(f"{store}/{path} is missing: verify the dataset and restore it") from None
