"""Say what a dataset's files tell of its risks, and what nobody has measured: people, unsafe content, personal data,
places and languages.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.stages.card.figures import percent
from openwit.pipeline.stages.card.histograms import top
from openwit.schemas.common.wording import counted
from openwit.schemas.manifest import DatasetManifest

PEOPLE_WORDS = (
    "man", "men", "woman", "women", "boy", "girl", "child", "children", "baby", "person", "people", "face",
    "portrait", "selfie", "crowd", "family", "bride", "groom",
)  # fmt: skip
UNSAFE_WORDS = (
    "nude", "naked", "porn", "sex", "sexy", "erotic", "nsfw", "xxx", "blood", "gore", "corpse", "gun", "weapon",
    "suicide", "nazi",
)  # fmt: skip
_PATTERNS = {
    "people": rf"(?i)\b(?:{'|'.join(PEOPLE_WORDS)})s?\b",
    "unsafe": rf"(?i)\b(?:{'|'.join(UNSAFE_WORDS)})s?\b",
    "mail": r"[A-Za-z0-9]@[A-Za-z0-9-]+\.[A-Za-z]{2}",
    "number": r"\+?[0-9][0-9 ().-]{7,}[0-9]",
}
_COUNTRY = re.compile(r"[a-z]{2}")
_OTHER_DOMAINS = "(not of a country)"


class Risk(NamedTuple):
    """One kind of risk: what was measured or done, and what was not, a sentence each."""

    title: str
    measured: list[str]
    open: list[str]


def count_patterns(texts: pa.Array) -> dict[str, int]:
    """Count the texts that hold a word on people, an unsafe word, an e-mail address or a long number."""
    return {name: pc.sum(pc.match_substring_regex(texts, rx)).as_py() or 0 for name, rx in _PATTERNS.items()}


def country_domains(hosts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the images by the country of their site's domain; others are one entry."""
    counts = Counter[str]()
    for host, n in hosts.items():
        last = host.rpartition(".")[2]
        if host:
            counts[f".{last}" if _COUNTRY.fullmatch(last) else _OTHER_DOMAINS] += n
    return top(counts)


def risks(manifest: DatasetManifest, facts: Mapping[str, Any]) -> list[Risk]:
    """Return the risks of a dataset.

    Args:
        facts: the result of `openwit.pipeline.stages.card.facts.gather`.
    """
    settings = {
        stage: manifest.recipe.get(manifest.step_of(stage), {}) for stage in ("candidates", "fetch", "dedup", "shard")
    }
    n, found = facts["texts"]["n"], facts["risks"]["texts_with"]
    return [
        _people(settings, n, found),
        _unsafe(settings, n, found),
        _personal(settings, n, found, manifest),
        _geography(facts),
        _languages(facts),
    ]


def _people(settings: Mapping[str, Any], n: int, found: Mapping[str, int]) -> Risk:
    words = ", ".join(PEOPLE_WORDS[:6])
    measured = [f"{_share(found['people'], n)} have an English word for people ({words}, …)."]
    if _key(settings["candidates"], "columns", "blur"):
        measured.append("Boxes that the input gives, of faces for example, were blurred.")
    return Risk(
        "People",
        measured,
        [
            "No face or person was looked for in the pictures: how many show people, who they are, and whether they "
            "agreed is not known.",
            "Gender, age, skin colour and other groups were not measured, so neither was any imbalance between them.",
        ],
    )


def _unsafe(settings: Mapping[str, Any], n: int, found: Mapping[str, int]) -> Risk:
    text = _key(settings["candidates"], "filters") or {}
    own = [*(text.get("custom") or ()), *(_key(settings["fetch"], "image", "filters") or ())]
    measured = [
        f"{_share(found['unsafe'], n)} have one of {len(UNSAFE_WORDS)} English words such as nude, sex or gun."
    ]
    if text.get("adult_words"):
        measured.append("Texts with words of the recipe's list `adult_words` were dropped.")
    if _key(settings["fetch"], "blocklist"):
        measured.append("Sites on the recipe's blocklist were not asked for images.")
    if own:
        measured.append(f"The recipe names {counted(len(own), 'filter')} of its own; see the recipe for what they do.")
    return Risk(
        "Unsafe content",
        measured,
        [
            "No classifier of sexual, violent or hateful content was run on the pictures by OpenWIT.",
            "Nothing was compared with lists of known illegal images.",
        ],
    )


def _personal(settings: Mapping[str, Any], n: int, found: Mapping[str, int], manifest: DatasetManifest) -> Risk:
    image = _key(settings["fetch"], "image") or {}
    measured = [
        f"{_share(found['mail'], n)} hold what looks like an e-mail address, and {found['number']:,} a number of 9 "
        "or more digits, which may be a telephone number."
    ]
    if image.get("keep_bytes"):
        measured.append("Image files are as they were served: they may hold EXIF data with places and names.")
    elif image:
        measured.append("Images are written without EXIF data, so without places and names of cameras' owners.")
    if image.get("exif"):
        measured.append("EXIF data, which may hold places and names, are in the metadata.")
    opted_out = sum(step.reasons.get("opted_out", 0) for step in manifest.funnel if step.unit == "images")
    if _key(settings["fetch"], "download", "opt_outs"):
        measured.append(f"{counted(opted_out, 'image')} whose site opts out of training by its headers were left out.")
    gone = sum(removal.samples for removal in manifest.removals)
    if gone:
        measured.append(f"{counted(gone, 'sample')} were removed on request after the build.")
    return Risk(
        "Personal data",
        measured,
        [
            "Names of people in texts, addresses, and documents or number plates in pictures were not looked for.",
            "Whether somebody asked a site to take an image down since it was fetched is not known.",
        ],
    )


def _geography(facts: Mapping[str, Any]) -> Risk:
    domains = [bar for bar in facts["risks"]["domains"] if bar["label"].startswith(".")]
    images = facts["hosts"]["images"]
    if domains:
        listed = ", ".join(f"{bar['label']} {bar['n']:,}" for bar in domains[:6])
        measured = [f"Images by the country of their site's domain: {listed}; {images:,} images have a site."]
    elif images:
        measured = [f"None of the {images:,} images is of a site with a country's domain."]
    else:
        measured = ["No image has a site: nothing tells where they are from."]
    return Risk(
        "Geography",
        measured,
        [
            "Where pictures were taken and what places they show was not measured; a domain tells where a site is "
            "registered. Crawls hold far more of Europe and North America than of the rest of the world."
        ],
    )


def _languages(facts: Mapping[str, Any]) -> Risk:
    n = facts["texts"]["n"]
    unknown = facts["texts"]["language_unknown"]
    codes = facts["texts"]["language_codes"]
    measured = []
    if codes:
        listed = ", ".join(f"{bar['label']} {100 * bar['n'] / n:.1f} %" for bar in codes[:6])
        measured.append(f"Languages of the texts: {listed}.")
    if unknown:
        measured.append(f"The language of {_share(unknown, n).lower()} was not identified.")
    return Risk(
        "Languages",
        measured or ["There are no texts."],
        [
            "Dialects were not told apart, and short texts are often taken for another language.",
            "Whether a text is true of its image was not checked by a person.",
        ],
    )


def _key(settings: Any, *path: str) -> Any:
    for key in path:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} texts ({percent(part, whole)})"
