"""Collect what a published dataset says of itself beside the card: for `README.md` and for `croissant.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from openwit.pipeline.dataset.layouts import EXTENSIONS
from openwit.pipeline.stages.card.rebuild import citation
from openwit.pipeline.stages.card.risks import Risk, risks
from openwit.pipeline.stages.card.source import CardSource
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.schemas.tables.samples import SAMPLES

MARK = "Written by `wit card` of OpenWIT from the files of this dataset"
"""In the files that the card may write again: one without it is somebody's own (`card_sums.is_own`), and is kept."""
_CODE = re.compile(r"[a-z]{2,3}")
_BLOCK = 512


@dataclass(frozen=True)
class Published:
    """The facts of a dataset for those who publish or load it.

    Attributes:
        facts: the result of `openwit.pipeline.stages.card.facts.gather`.
        schema: of the metadata tables.
        document: keys of a sample's `.json` member, with a value of each; empty if there is no sample.
        image_endings: of the images in the shards.
        comments: column to its meaning.
    """

    manifest: DatasetManifest
    manifest_bytes: int
    manifest_sum: str
    facts: Mapping[str, Any]
    risks: list[Risk]
    citation: str
    schema: pa.Schema
    document: Mapping[str, Any]
    image_endings: tuple[str, ...]
    comments: Mapping[str, str]

    def summary(self) -> str:
        """Return the description, and the counts in a sentence."""
        images, texts = self.facts["images"]["n"], self.facts["texts"]["n"]
        lead = self.manifest.description or "Images with texts from web pages or tables."
        none = self.facts["licences"]["none_stated"]
        rights = f" For {none:,} texts no licence was stated." if none else ""
        return f"{lead.rstrip('.')}. {images:,} images with {texts:,} texts, as {shards_of(self.manifest)}.{rights}"


def published(source: CardSource, facts: Mapping[str, Any]) -> Published:
    """Read what is missing: the schema of the metadata, and one sample of the first shard."""
    manifest = source.manifest
    raw = source.place.read(MANIFEST_NAME)
    digest = source.identity()[MANIFEST_NAME]
    first = next((shard for shard in source.shards() if shard.samples), None)
    schema = SAMPLES.arrow if first is None else source.schema(first)
    document, ending = ({}, ()) if first is None else _first_sample(source, first)
    endings = _endings(source) if "format" in schema.names else ending
    return Published(
        manifest=manifest,
        manifest_bytes=len(raw),
        manifest_sum=digest,
        facts=facts,
        risks=risks(manifest, facts),
        citation=citation(manifest, digest),
        schema=schema,
        document=document,
        image_endings=endings or (EXTENSIONS["image"],),
        comments={column.name: column.comment for column in SAMPLES.columns},
    )


def shards_of(manifest: DatasetManifest) -> str:
    """Return what the shards of a dataset are, in words."""
    names = {"webdataset": "WebDataset shards", "files": "files in folders", "parquet": "Parquet tables with images"}
    return names[(manifest.formats() or ["webdataset"])[0]]


def codes_of(facts: Mapping[str, Any]) -> list[str]:
    """Return the codes of the languages that at least one in a thousand texts has, most frequent first."""
    texts = facts["texts"]["n"]
    found = [bar["label"] for bar in facts["texts"]["language_codes"] if bar["n"] * 1000 >= texts]
    return [code for code in found if _CODE.fullmatch(code)]


def _endings(source: CardSource) -> tuple[str, ...]:
    """Return the endings of the images in the shards, sorted."""
    found: set[str] = set()
    for shard in source.shards():
        if "format" in source.schema(shard).names:
            found.update(source.metadata(shard, ["format"]).column("format").unique().to_pylist())
        elif shard.samples:
            found.add(EXTENSIONS["image"])
    return tuple(sorted(found))


def _first_sample(source: CardSource, shard: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the document of a shard's first sample, and the ending of its image by the header in the tar."""
    place = source.first_place(shard)
    if place is None:
        return {}, ()
    header = source.place.ranges(shard.tar.path, [max(0, place["image_offset"] - _BLOCK)], [100])[0]
    ending = header.split(b"\0")[0].decode(errors="replace").rpartition(".")[2]
    body = source.place.ranges(shard.tar.path, [place["json_offset"]], [place["json_size"]])[0]
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = {}
    endings = (ending,) if re.fullmatch(r"[a-z0-9]{2,5}", ending) else ()
    return (document if isinstance(document, dict) else {}), endings
