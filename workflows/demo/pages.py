"""The HTML pages: each site's own idiom, from the templates beside this file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from openwit.workflows.demo.faults import Oddment, oddments
from openwit.workflows.demo.plan import Picture
from openwit.workflows.demo.sites import HOSTS, Site, host
from openwit.workflows.demo.texts import CREDITS, INTRODUCTIONS

# Where the second and later pages of a site are; the first is its front page. The depth of the path decides what a
# relative address means there.
_PAGE_PATHS = {
    "clipart": "/page{number}.html",
    "stickers": "/sheets/{number}/index.html",
    "newsroom": "/2024/07/story-{number}.html",
    "shop": "/range/{number}.html",
    "sketchbook": "/page/{number}.htm",
    "retro": "/~icons/icons{number}.html",
    "nightsky": "/nights/{number}.html",
    "gallery": "/rooms/{number}.html",
}
_SMALL_PATH = "/page{number}.html"

# A robots.txt of every kind a crawler meets; hosts not named here have none (404), "flaky" answers 500.
ROBOTS = {
    "clipart": "User-agent: *\nDisallow: /admin/\n\nSitemap: http://{host}/sitemap.xml\n",
    "newsroom": "# Welcome, robots\nUser-agent: BadBot\nDisallow: /\n\nUser-agent: *\nDisallow: /*?print=\nAllow: /\n",
    "shop": "User-agent: *\nDisallow: /cart\nDisallow: /search\n",
    "dessins": "User-agent: *\nCrawl-delay: 0.1\nDisallow: /prive/\n",
    "gallery": "User-agent: *\nDisallow:\n",
    "private": "User-agent: *\nDisallow: /\n",
    "noai": "User-agent: *\nAllow: /\n",
}


@dataclass(frozen=True)
class Page:
    """One HTML file: its path below the host and its bytes."""

    path: str
    body: bytes


class PageWriter:
    """Renders a site's pages; holds the compiled templates."""

    def __init__(self) -> None:
        """Reads the templates beside this file."""
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def site(self, site: Site, pictures: Sequence[Picture]) -> list[Page]:
        """All pages of a site that shows the given pictures."""
        batches = [pictures[start : start + site.per_page] for start in range(0, len(pictures), site.per_page)] or [[]]
        pages = []
        for number, batch in enumerate(batches, start=1):
            path = _path(site, number)
            context = {
                "site": site,
                "number": number,
                "count": len(batches),
                "links": [(n, _link(site, n)) for n in _neighbours(number, len(batches))],
                "items": [_item(picture, path) for picture in batch],
                "home": f"http://{host(site.name)}",
                **_common(site.language, site.charset if "meta" in site.declares else None),
            }
            pages.append(Page(path, self._render(site.template, context, site.charset)))
        return pages + self._unlisted(site, pictures)

    def blog(self, linked: Sequence[Picture]) -> list[Page]:
        """The blog of odd pictures, which also links to pictures of other sites."""
        items = oddments([Oddment(picture.address, picture.words.alt) for picture in linked])
        context = {"items": items, **_common("en", "utf-8")}
        return [Page("/index.html", self._render("oddments", context, "utf-8"))]

    def _unlisted(self, site: Site, pictures: Sequence[Picture]) -> list[Page]:
        """A page the front page links to and robots.txt keeps robots from."""
        if site.name != "clipart":
            return []
        context = {
            "items": [_item(picture, "/admin/index.html") for picture in pictures[:3]],
            **_common("en", "utf-8"),
        }
        return [Page("/admin/index.html", self._render("admin", context, site.charset))]

    def _render(self, template: str, context: dict[str, Any], charset: str) -> bytes:
        text = self._templates.get_template(f"{template}.html.j2").render(context)
        return text.encode(charset, errors="xmlcharrefreplace")


def _common(language: str, charset: str | None) -> dict[str, Any]:
    return {
        "language": language,
        "charset": charset,
        "credit": CREDITS[language],
        "intro": INTRODUCTIONS[language],
        "hosts": {name: host(name) for name in HOSTS},
    }


def _path(site: Site, number: int) -> str:
    return "/index.html" if number == 1 else _PAGE_PATHS.get(site.name, _SMALL_PATH).format(number=number)


def _link(site: Site, number: int) -> str:
    return "/" if number == 1 else _path(site, number).removesuffix("index.html")


def _neighbours(number: int, count: int) -> list[int]:
    """Page numbers a page links to: the first, a window around itself, the last."""
    near = range(max(1, number - 3), min(count, number + 4) + 1)
    return sorted({1, count, *near} - {number})


def _item(picture: Picture, page: str) -> dict[str, Any]:
    site, words = picture.site, picture.words
    return {
        "src": _reference(picture, picture.named, page),
        "address": picture.address,
        "whole": _reference(picture, picture.path, page),
        "small": _reference(picture, picture.small, page) if picture.small else "",
        "alt": Markup(words.alt_html),
        "plain_alt": words.alt,
        "caption": words.caption,
        "title": words.title,
        "slug": picture.concept.slug,
        "group": picture.concept.group,
        "width": site.size[0],
        "height": site.size[1],
    }


def _reference(picture: Picture, path: str, page: str) -> str:
    """How the page writes the address of a file: absolute, rooted, relative to the page or to its <base>."""
    if path.startswith("http"):
        return path
    name = picture.site.name
    if name == "nightsky":
        return f"//{host(picture.image_host)}{path}"
    if name == "gallery":
        return f"http://{host(name)}{path}"
    if name == "shop":
        return f"{path}?v=3"
    if name == "retro":
        return path.removeprefix("/PICS/")  # the page's <base> is /PICS/
    if name in ("stickers", "private"):
        return path
    return "../" * (page.count("/") - 1) + path.removeprefix("/")
