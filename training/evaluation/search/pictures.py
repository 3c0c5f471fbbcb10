"""Find the pictures of search results again, in the data that were embedded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.data.sharded import Dataset, ShardedDataset
from openwit.training.evaluation.captioned.bare import open_pictures
from openwit.training.evaluation.captioned.open import CaptionedData
from openwit.training.evaluation.search.find import Found

_PATHS = ("data", "images")


def source_of(wanted: CaptionedData, *, captions: bool = True) -> dict[str, Any]:
    """Return how data were named and opened (see `open_pictures`), as JSON data; paths are absolute."""
    found = {name: getattr(wanted, name) for name in ("data", "split", "images", "image_column", "caption_column")}
    named = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in found.items()
        if value is not None
    }
    return named if captions else {**named, "captions": False}


def pictures_of(source: Mapping[str, Any], found: Sequence[Found]) -> tuple[list[bytes | None], str]:
    """Return the image file of each result, None for one that is not there, and why, in words.

    Args:
        source: of the embeddings: how the data were named.
        found: the results.
    """
    if not source:
        return [None] * len(found), "the embeddings do not say where their images are"
    try:
        if source.get("by_key"):
            return _by_key(Path(source["data"]), found), ""
        options: dict[str, Any] = {name: Path(value) if name in _PATHS else value for name, value in source.items()}
        captions = options.pop("captions", True)
        dataset, _ = open_pictures(CaptionedData(**options), captions=captions)
    except OpenWITError as error:
        return [None] * len(found), str(error)
    pictures = [_picture(dataset, each.row.get("sample"), each.key) for each in found]
    return pictures, "" if all(pictures) else f"{source['data']} no longer holds every image"


def _picture(dataset: Dataset, number: int | None, key: str) -> bytes | None:
    try:
        if number is None or number >= len(dataset) or dataset.key(number) != key:
            return None
        return dataset.sample(number).image
    except (OpenWITError, OSError):
        return None


def _by_key(folder: Path, found: Sequence[Found]) -> list[bytes | None]:
    """Return the images of a dataset of ours by their keys, of the splits that the rows name."""
    splits = DatasetManifest.load(folder).splits()
    pictures: dict[str, bytes | None] = {}
    for split in {str(each.row.get("split")) for each in found} & set(splits):
        dataset = ShardedDataset(folder, split)
        wanted = {each.key for each in found if each.row.get("split") == split}
        for number in range(len(dataset)):
            if dataset.key(number) in wanted:
                pictures[dataset.key(number)] = _picture(dataset, number, dataset.key(number))
                if len(pictures) == len(found):
                    break
    return [pictures.get(each.key) for each in found]
