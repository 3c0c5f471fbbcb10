"""Write the README.md that Hugging Face's Hub shows, with the header from which `datasets` loads the shards."""

import re
from collections.abc import Mapping
from typing import Any

import jinja2
import yaml

from openwit.pipeline.stages.card.column_types import feature, json_type, type_of_value
from openwit.pipeline.stages.card.figures import byte_size, percent
from openwit.pipeline.stages.card.published import MARK, Published, codes_of
from openwit.pipeline.stages.card.tally import NO_LICENCE
from openwit.pipeline.stages.meanings import name_of
from openwit.schemas.common.printable import printable
from openwit.schemas.manifest import DatasetManifest

CONFIG = "webdataset"
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip
_CREATIVE_COMMONS = re.compile(
    r"https?://creativecommons\.org/(?:licenses/(by(?:-nc)?(?:-nd|-sa)?)/([1-4]\.[05])|publicdomain/(zero)/1\.0)/?"
    r"(?:deed\.\w+)?/?"
)


def readme(about: Published) -> str:
    """Return the text of `README.md`."""
    header = yaml.safe_dump(_header(about), sort_keys=False, allow_unicode=True, width=1000)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("openwit.pipeline.stages.card", "."),
        autoescape=False,  # Markdown: `_plain` escapes
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        plain=_plain, code=_code, number=lambda n: f"{n:,}", percent=percent, size=byte_size, words=name_of
    )
    body = environment.get_template("readme.md.j2").render(
        about=about,
        facts=about.facts,
        manifest=about.manifest,
        config=_config(about.manifest),
        form=(about.manifest.formats() or ["webdataset"])[0],
        splits=[(split, _split_name(split), about.facts["splits"][split]) for split in about.manifest.splits()],
        columns=[(field.name, str(field.type), about.comments.get(field.name, "")) for field in about.schema],
        mark=MARK,
    )
    return f"---\n{header}---\n\n{body.strip()}\n"


def _header(about: Published) -> dict[str, Any]:
    languages = codes_of(about.facts)
    header: dict[str, Any] = {
        "pretty_name": about.manifest.name,
        **_licence(about.facts),
        **({"language": languages} if languages else {}),
        "size_categories": [size_category(about.facts["images"]["n"])],
        "task_categories": ["image-to-text", "text-to-image", "zero-shot-image-classification"],
        "tags": ["image-text", *about.manifest.formats(), "croissant", "openwit"],
    }
    name = _config(about.manifest)
    if not about.manifest.shards or not name:
        return header
    end = "tar" if name == CONFIG else name
    files = [{"split": _split_name(split), "path": f"{split}/*.{end}"} for split in about.manifest.splits()]
    header["configs"] = [{"config_name": name, "default": True, "data_files": files}]
    if end == "tar" and about.document:
        header["dataset_info"] = [{"config_name": name, "features": _features(about)}]
    return header


def _config(manifest: DatasetManifest) -> str:
    """Return the name under which `datasets` loads the shards; empty if it has no loader for them."""
    formats = [str(form) for form in manifest.formats()] or [CONFIG]
    return formats[0] if len(formats) == 1 and formats[0] != "files" else ""


def _features(about: Published) -> list[dict[str, Any]]:
    """Return the features of the shards. Without them `datasets` guesses from the first samples, where a column that
    is null in all of them has no type.
    """
    types = {field.name: field.type for field in about.schema}
    kinds = {
        key: json_type(types[key]) if key in types else type_of_value(value) for key, value in about.document.items()
    }
    return [
        *({"name": ending, "dtype": "image"} for ending in about.image_endings),
        {"name": "txt", "dtype": "string"},
        {"name": "json", "struct": [feature(key, kind) for key, kind in kinds.items()]},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def size_category(samples: int) -> str:
    """Return the Hub's name for a size."""
    return next((name for end, name in _SIZES if samples < end), "n>1T")


def _licence(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the licence by the Hub's name if every text states the same known one, else `other`."""
    stated = [bar["label"] for bar in facts["licences"]["links"]]
    if len(stated) == 1 and stated != [NO_LICENCE] and (found := _CREATIVE_COMMONS.fullmatch(stated[0])):
        return {"license": "cc0-1.0" if found[3] else f"cc-{found[1]}-{found[2]}"}
    return {"license": "other", "license_name": "of-each-image", "license_link": "README.md"}


def _split_name(split: str) -> str:
    """Return a split's name in `datasets`, which takes no hyphens."""
    return split.replace("-", "_").strip("_") or "split"


def _plain(text: str) -> str:
    """Return external text in one line of Markdown that shows it as it is."""
    line = printable(" ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", line)


def _code(text: str) -> str:
    """Return external text as code in a line of Markdown, in a table too."""
    return "`" + printable(" ".join(text.split())).replace("`", "'").replace("|", "¦") + "`"
