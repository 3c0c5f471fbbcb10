"""Read the JSON of COCO's captions and Karpathy's splits, whose images lie in a folder of their own."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.training.data.captioned_files import FileSamples

HELD_OUT = ("test", "val")
_MOST_BYTES = 4 << 30
Entries = dict[str, list[str]]
"""Captions by the path of their image."""


def captioned_json(
    path: Path, *, images: Path | None, split: str | None, report: Callable[[str], None]
) -> FileSamples:
    """Open the images that a JSON of COCO's captions or of Karpathy's splits names.

    Args:
        path: the file (`captions_val2017.json`, `dataset_flickr30k.json`, `dataset_coco.json`).
        images: folder of the images; None: the file's own, or one beside it.
        split: of Karpathy's file, by default `test`; COCO's has none.
        report: receives a sentence on what was found.

    Raises:
        DataError: it is neither of both, has no such split, or the images are not there.
    """
    document = _document(path)
    listed = document.get("images")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise DataError(f"{path} is neither COCO's captions nor Karpathy's splits: it has no list of images")
    annotations = document.get("annotations")
    if isinstance(annotations, list):
        if split is not None:
            raise DataError(f"{path} is COCO's layout, which has no split {split!r}: leave the split out")
        entries, name = _coco(path, listed, annotations), "captions"
    else:
        name = _chosen(path, listed, split)
        entries = _karpathy(each for each in listed if each.get("split") == name)
    empty = sum(not texts for texts in entries.values())
    entries = {file: texts for file, texts in entries.items() if texts}
    if not entries:
        raise DataError(f"{path} has no image with a caption in {name}")
    folder = _folder(path, images, list(entries))
    texts = [tuple(found) for found in entries.values()]
    aside = f"; left aside: {counted(empty, 'image')} without a caption" if empty else ""
    report(f"{path}: {counted(sum(map(len, texts)), 'caption')} of {counted(len(texts), 'image')} in {folder}{aside}")
    identity = hashlib.sha256(repr(texts).encode(errors="surrogateescape")).hexdigest()
    samples = FileSamples(folder, name, list(entries), texts.__getitem__, identity)
    samples.name = path.stem
    return samples


def _document(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} has more than {_MOST_BYTES >> 30} GiB, which is no list of captions")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path} is neither COCO's captions nor Karpathy's splits: it is no JSON object")
    return document


def _coco(path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Any]) -> Entries:
    """Return the captions of COCO's `images` and `annotations`, both in the order of the file."""
    files = {each.get("id"): str(each["file_name"]) for each in images if each.get("file_name")}
    entries: Entries = {file: [] for file in files.values()}
    unknown = 0
    for each in annotations:
        file = files.get(each.get("image_id")) if isinstance(each, dict) else None
        if file is None:
            unknown += 1
        elif isinstance(each.get("caption"), str) and each["caption"].strip():
            entries[file].append(each["caption"].strip())
    if unknown:
        raise DataError(f"{path}: {counted(unknown, 'annotation')} name an image that the file does not list")
    return entries


def _karpathy(images: Any) -> Entries:
    """Return the captions of Karpathy's `images`, each with `filename`, `filepath` for COCO, and `sentences`."""
    entries: Entries = {}
    for each in images:
        sentences = each.get("sentences")
        if not isinstance(each.get("filename"), str) or not isinstance(sentences, list):
            continue
        folder = each.get("filepath")
        file = f"{folder}/{each['filename']}" if isinstance(folder, str) and folder else each["filename"]
        raw = [sentence.get("raw") for sentence in sentences if isinstance(sentence, dict)]
        entries[file] = [text.strip() for text in raw if isinstance(text, str) and text.strip()]
    return entries


def _chosen(path: Path, images: Sequence[Mapping[str, Any]], split: str | None) -> str:
    known = list(dict.fromkeys(each["split"] for each in images if isinstance(each.get("split"), str)))
    if not known:
        raise DataError(f"{path} is neither COCO's captions (annotations) nor Karpathy's splits (split of each image)")
    wanted = split if split is not None else next((name for name in HELD_OUT if name in known), None)
    if wanted is None or wanted not in known:
        raise DataError(f"{path} has no split {wanted!r}, only {', '.join(known)}: name one with --split")
    return wanted


def _folder(path: Path, images: Path | None, files: Sequence[str]) -> Path:
    """Return the folder to which the images' paths are relative."""
    if images is not None and not images.is_dir():
        raise DataError(f"--images {images} is not a folder")
    places = [images] if images is not None else [path.parent, path.parent / "images", path.parent.parent]
    for place in places:
        if any((place / file).is_file() for file in files[:20]):
            return place
    if images is not None:
        flat = [Path(file).name for file in files[:20]]
        inside = f", only {flat[0]} without its folder" if any((images / name).is_file() for name in flat) else ""
        raise DataError(f"{images} holds none of the images that {path.name} names, such as {files[0]}{inside}")
    raise DataError(f"{path}: its images, such as {files[0]}, are not beside it: name their folder with --images")
