"""Plan the web: which picture of which concept is where, the text of its page, and its fault."""

import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openwit.workflows.demo.behaviours import Behaviour, HostRules
from openwit.workflows.demo.concepts import Concept, unit_hash
from openwit.workflows.demo.faults import REFUSED, Fault, behaviour_of, fault_of, odd_behaviours
from openwit.workflows.demo.render import Output, Rendering
from openwit.workflows.demo.sites import BLOG, HOSTS, SITES, Site, host
from openwit.workflows.demo.texts import Words, words_for

CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}


@dataclass(frozen=True)
class Picture:
    """One picture of a site."""

    site: Site
    concept: Concept
    words: Words
    fault: Fault
    path: str  # of the file, below its host
    named: str  # what the page points at: a path below the host, or an absolute address
    small: str | None

    @property
    def image_host(self) -> str:
        """Name of the host that has the file."""
        return self.site.image_host or self.site.name

    @property
    def address(self) -> str:
        """Absolute address the page's reference leads to, percent-encoded, the port left open."""
        if self.named.startswith("http"):
            return self.named
        return f"http://{host(self.image_host)}{urllib.parse.quote(self.named)}"


def pictures_of(site: Site, concepts: Sequence[Concept]) -> tuple[Picture, ...]:
    """The pictures of one site in the order in which its pages show them (by name, as people sort)."""
    shown = [concept for concept in concepts if unit_hash("shown", site.name, concept.key) < site.share]
    if len(shown) > site.most:
        shown = sorted(shown, key=lambda concept: unit_hash("shown", site.name, concept.key))[: site.most]
    shown.sort(key=lambda concept: concept.slug)
    return tuple(_picture(site, concept) for concept in shown)


def renderings(pictures: Iterable[Picture]) -> dict[str, tuple[Rendering, ...]]:
    """What to draw, by concept key. Copies share the drawing of the site they copy."""
    outputs: dict[str, dict[tuple[str, str, tuple[int, int]], list[Output]]] = {}
    origins = {site.name: site for site in SITES}
    for picture in pictures:
        files = _outputs(picture)
        if files:
            origin = origins[picture.site.copies_of or picture.site.name]
            drawing = (origin.style, f"{origin.name}/{picture.concept.key}", origin.size)
            outputs.setdefault(picture.concept.key, {}).setdefault(drawing, []).extend(files)
    return {
        key: tuple(Rendering(*drawing, outputs=tuple(files)) for drawing, files in drawings.items())
        for key, drawings in outputs.items()
    }


def host_rules(pictures: Iterable[Picture]) -> dict[str, HostRules]:
    """How every host answers."""
    paths: dict[str, dict[str, Behaviour]] = {name: {} for name in HOSTS}
    good = f"http://{host('stickers')}/logo.png"
    for picture in pictures:
        content_type = CONTENT_TYPES[picture.site.encoding.format]
        answer = behaviour_of(picture.fault, picture.path, content_type)
        if answer is not None:
            paths[picture.image_host][answer[0]] = answer[1]
        if picture.site.name == "stickers" and picture.fault == "none":
            good = picture.address
    paths[BLOG].update(odd_behaviours(good))
    paths["flaky"]["/robots.txt"] = Behaviour(kind="status", status=500)
    declared = {site.name: site.charset if "header" in site.declares else None for site in SITES}
    return {
        name: HostRules(
            headers={"X-Robots-Tag": "noai"} if name == "noai" else {},
            html_charset=declared.get(name, "utf-8"),
            gzip=name == "shop",
            paths=paths[name],
        )
        for name in HOSTS
    }


def _picture(site: Site, concept: Concept) -> Picture:
    words = words_for(concept, site.name, site.language, site.alts, site.captions)
    fault = fault_of(site, concept)
    path, small = (
        pattern.format(slug=concept.slug, key=concept.key.lower()) if pattern else None
        for pattern in (site.file, site.small)
    )
    assert path is not None
    named = path
    if fault == "refused":
        named = f"{REFUSED}{path}"
    elif fault == "moved":
        named = f"/moved{path}"
    return Picture(site, concept, words, fault, path, named, small)


def _outputs(picture: Picture) -> list[Output]:
    if picture.fault in ("missing", "gone", "error", "refused", "markup"):
        return []
    site, root = picture.site, picture.image_host
    keep = 0.4 if picture.fault == "truncated" else 1.0
    files = [Output(root + picture.path, site.size, site.encoding, keep)]
    if picture.small:
        files.append(Output(root + picture.small, (site.size[0] // 2, site.size[1] // 2), site.encoding))
    return files
