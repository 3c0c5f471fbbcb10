"""Generate the sites' texts about a picture: alt texts, captions, and strings that should not be alt texts."""

import html
import re
from dataclasses import dataclass
from typing import Literal

from openwit.workflows.demo.concepts import Concept, unit_hash

AltKind = Literal["plain", "empty", "file name", "boilerplate", "url", "stuffed", "entities", "spaces", "control"]

# Share of each kind of alt text other than a plain one, on sites that are not held out.
_ALT_SHARES: tuple[tuple[AltKind, float], ...] = (
    ("empty", 0.015),
    ("file name", 0.010),
    ("boilerplate", 0.010),
    ("url", 0.004),
    ("stuffed", 0.004),
    ("entities", 0.008),
    ("spaces", 0.008),
    ("control", 0.004),
)
_BOILERPLATE = ("image", "logo", "click to enlarge", "photo", "picture", "thumbnail", "icon")

INTRODUCTIONS = {
    "en": "Pictures of things big and small, drawn one by one and free to use.",
    "es": "Dibujos gratis para imprimir y colorear, ordenados por nombre, para la escuela y para casa.",
    "fr": "Des dessins gratuits à imprimer et à colorier, classés par nom, pour l'école et la maison.",
    "de": "Kostenlose Bilder zum Ausdrucken und Ausmalen, nach Namen geordnet, für Schule und Zuhause.",
    "ja": "学校や家で使える無料のイラスト素材集です。名前の順に並んでいます。",
    "ru": "Бесплатные рисунки для печати и раскрашивания, по алфавиту, для школы и дома.",
    "pt": "Desenhos gratuitos para imprimir e colorir, organizados por nome, para a escola e a casa.",
}
CREDITS = {
    "en": "Pictures made from OpenMoji, the open-source emoji project. Licence: CC BY-SA 4.0; changed by this site.",
    "es": "Imágenes hechas a partir de OpenMoji. Licencia: CC BY-SA 4.0; modificadas por este sitio.",
    "fr": "Images faites à partir d'OpenMoji. Licence : CC BY-SA 4.0 ; modifiées par ce site.",
    "de": "Bilder nach OpenMoji. Lizenz: CC BY-SA 4.0; von dieser Seite verändert.",
    "ja": "画像は OpenMoji をもとに作成しました。ライセンス: CC BY-SA 4.0。改変あり。",
    "ru": "Картинки сделаны на основе OpenMoji. Лицензия: CC BY-SA 4.0; изменены этим сайтом.",
    "pt": "Imagens feitas a partir de OpenMoji. Licença: CC BY-SA 4.0; modificadas por este site.",
}


@dataclass(frozen=True)
class Words:
    """The texts of one picture on one page. `alt_html` is already escaped the way the site's author escapes."""

    alt: str  # as the author meant it, before any escaping
    alt_html: str
    kind: AltKind
    caption: str
    title: str


def words_for(concept: Concept, site: str, language: str, alts: tuple[str, ...], captions: tuple[str, ...]) -> Words:
    """The texts for a concept on a site; the same arguments give the same texts.

    Args:
        concept: what the picture shows.
        site: the site's name, the seed of its choices.
        language: language of the name put into the templates.
        alts: templates of alt texts with {name}, {Name}, {a_name} and {group}.
        captions: templates of captions, likewise; the title attribute is one of them too.
    """
    kind = _alt_kind(site, concept.key)
    alt = _fill(_pick(alts, site, concept.key, "alt"), concept, language)
    alt, markup = _spoil(alt, kind, concept, site)
    caption = _fill(_pick(captions, site, concept.key, "caption"), concept, language)
    title = _fill("{Name}", concept, language)
    return Words(alt, markup, kind, caption, title)


def with_article(name: str) -> str:
    """ "a pizza", "an ear"; names in the plural, proper names and numbers keep none."""
    last = name.split()[-1]
    if name[0].isupper() or name[0].isdigit() or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return name
    return f"an {name}" if name[0] in "aeio" else f"a {name}"


def _alt_kind(site: str, key: str) -> AltKind:
    chance = unit_hash("alt kind", site, key)
    for kind, share in _ALT_SHARES:
        if chance < share:
            return kind
        chance -= share
    return "plain"


def _pick(templates: tuple[str, ...], site: str, key: str, purpose: str) -> str:
    return templates[int(unit_hash(purpose, site, key) * len(templates))]


def _fill(template: str, concept: Concept, language: str) -> str:
    name = concept.names.get(language, concept.name)
    capital = re.sub(r"(^|\s)(\w)", lambda match: match[1] + match[2].upper(), name)
    return template.format(name=name, Name=capital, a_name=with_article(name), group=concept.group)


def _spoil(alt: str, kind: AltKind, concept: Concept, site: str) -> tuple[str, str]:
    """Turn the alt text into a kind of bad one: as text and as HTML."""
    number = int(unit_hash("number", site, concept.key) * 9000) + 1000
    if kind == "empty":
        alt = ""
    elif kind == "file name":
        alt = f"IMG_{number}.png"
    elif kind == "boilerplate":
        alt = _pick(_BOILERPLATE, site, concept.key, "boilerplate")
    elif kind == "url":
        alt = f"http://www.example.com/{concept.slug}/{number}"
    elif kind == "stuffed":
        name, group = concept.name, concept.group
        parts = [
            f"{name} {word}, buy {name}, cheap {name}, {group} {word}" for word in ("picture", "photo", "clip art")
        ]
        alt = ", ".join(parts * 8)
    elif kind == "spaces":
        alt = "  " + alt.replace(" ", "   ") + "\n   "
    elif kind == "control":
        alt = alt.replace(" ", " \u200b\x07", 1) + "\u00ad"
    markup = html.escape(alt)
    if kind == "entities":
        markup = markup.replace(" ", "&nbsp;", 1) + " &hearts; &#8211; &quot;free&quot; &amp; easy"
        alt = html.unescape(markup)
    return alt, markup
