"""Describe a dataset in Croissant, the JSON-LD vocabulary of MLCommons: files with checksums, record sets, fields.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from openwit.pipeline.stages.card.column_types import croissant_type
from openwit.pipeline.stages.card.published import MARK, Published, codes_of
from openwit.pipeline.stages.card.texts import web_address
from openwit.schemas.manifest import MANIFEST_NAME, FileEntry

_Json = dict[str, Any]
_CONTEXT: _Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {
    "tar": "application/x-tar", "parquet": "application/x-parquet", "json": "application/json", "jpg": "image/jpeg",
    "bmp": "image/bmp", "tiff": "image/tiff", "avif": "image/avif",
    "png": "image/png", "webp": "image/webp", "gif": "image/gif",
}  # fmt: skip


def croissant_json(about: Published) -> str:
    """Return the text of `croissant.json`."""
    manifest = about.manifest
    shards = [shard for split in manifest.splits() for shard in manifest.shards_of(split)]
    tars = [shard.tar for shard in shards if shard.format == "webdataset"]
    files = [*tars, *(shard.metadata for shard in shards), *sorted(manifest.tables, key=lambda entry: entry.path)]
    own = FileEntry(path=MANIFEST_NAME, bytes=about.manifest_bytes, sha256=about.manifest_sum)
    document: _Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.name,
        "description": about.summary(),
        "version": "1.0.0",
        "keywords": ["image-text", "vision-language", *manifest.formats()],
        "citeAs": about.citation,
        **_optional(about),
        **_responsible(about),
        "distribution": [
            *(_file_object(entry) for entry in [*files, own]),
            *_file_sets(about, tars),
        ],
        "recordSet": [_metadata(about), *_images(about, tars)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _optional(about: Published) -> _Json:
    languages = codes_of(about.facts)
    stated = [bar["label"] for bar in about.facts["licences"]["links"]]
    links = [url for label in stated if (url := web_address(label))]
    found: _Json = {"inLanguage": languages} if languages else {}
    return {**found, "license": links} if links else found


def _responsible(about: Published) -> _Json:
    """Return the properties of Croissant's vocabulary for responsible AI that the card's section on risks fills."""
    by_title = {risk.title: risk for risk in about.risks}
    personal = [*by_title["Personal data"].measured, *by_title["Personal data"].open]
    people = [*by_title["People"].measured, *by_title["People"].open]
    biases = [line for title in ("Geography", "Languages") for line in by_title[title].measured]
    return {
        "rai:dataCollection": "Pairs of image and text from web pages or tables, matched with a list of queries where "
        "the recipe says so, fetched, checked, deduplicated and written by OpenWIT; every drop is counted in "
        f"{MANIFEST_NAME}.",
        "rai:personalSensitiveInformation": [*people, *personal],
        "rai:dataBiases": biases,
        "rai:dataLimitations": [line for risk in about.risks for line in risk.open],
        "rai:dataReleaseMaintenancePlan": f"{MARK}; it is written anew with every change of the files.",
    }


def _file_object(entry: FileEntry) -> _Json:
    ending = entry.path.rpartition(".")[2]
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path,
        "contentUrl": entry.path,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": _FORMATS.get(ending, "application/octet-stream"),
        "sha256": entry.sha256,
    }


def _file_sets(about: Published, tars: Sequence[FileEntry]) -> list[_Json]:
    splits = about.manifest.splits()
    sets: list[_Json] = [
        {
            "@type": "cr:FileSet",
            "@id": "metadata-files",
            "name": "metadata-files",
            "description": "One table of metadata for each shard.",
            "encodingFormat": _FORMATS["parquet"],
            "includes": [f"{split}/*.parquet" for split in splits],
        }
    ]
    sets += [
        {
            "@type": "cr:FileSet",
            "@id": f"{ending}-files",
            "name": f"{ending}-files",
            "description": f"The images KEY.{ending} in the shards; KEY.txt and KEY.json lie beside each.",
            "containedIn": [{"@id": entry.path} for entry in tars],
            "encodingFormat": _FORMATS.get(ending, "application/octet-stream"),
            "includes": f"*.{ending}",
        }
        for ending in about.image_endings
        if _are_tars(tars)
    ]
    return sets


def _metadata(about: Published) -> _Json:
    split: _Json = {
        "@type": "cr:Field",
        "@id": "metadata/split",
        "name": "split",
        "description": "the split, by the folder of the file",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": "metadata-files"},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": "^([^/]+)/"},
        },
    }
    columns = [_column(field, about.comments) for field in about.schema if field.name != "split"]
    return {
        "@type": "cr:RecordSet",
        "@id": "metadata",
        "name": "metadata",
        "description": "One record for each sample: its texts, where they are from, and facts about the image.",
        "key": {"@id": "metadata/key"},
        "field": [split, *columns],
    }


def _column(field: pa.Field, comments: Mapping[str, str]) -> _Json:
    kind, repeats = croissant_type(field.type)
    return {
        "@type": "cr:Field",
        "@id": f"metadata/{field.name}",
        "name": field.name,
        "description": comments.get(field.name, "a column of the input"),
        "dataType": kind,
        **({"repeated": True} if repeats else {}),
        "source": {"fileSet": {"@id": "metadata-files"}, "extract": {"column": field.name}},
    }


def _images(about: Published, tars: Sequence[FileEntry]) -> list[_Json]:
    if not _are_tars(tars):
        return []
    return [
        {
            "@type": "cr:RecordSet",
            "@id": name,
            "name": name,
            "description": f"The images that are stored as {ending}; the key is that of the metadata.",
            "key": {"@id": f"{name}/key"},
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{name}/key",
                    "name": "key",
                    "description": "key of the sample",
                    "dataType": "sc:Text",
                    "source": {
                        "fileSet": {"@id": f"{ending}-files"},
                        "extract": {"fileProperty": "filename"},
                        "transform": {"regex": rf"^(.+)\.{ending}$"},
                    },
                },
                {
                    "@type": "cr:Field",
                    "@id": f"{name}/image",
                    "name": "image",
                    "description": "the image",
                    "dataType": "sc:ImageObject",
                    "source": {"fileSet": {"@id": f"{ending}-files"}, "extract": {"fileProperty": "content"}},
                },
            ],
        }
        for ending in about.image_endings
        for name in ["images" if len(about.image_endings) == 1 else f"images-{ending}"]
    ]


def _are_tars(entries: Sequence[FileEntry]) -> bool:
    return bool(entries) and all(entry.path.endswith(".tar") for entry in entries)
