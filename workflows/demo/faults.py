"""Define the faults of the demo's web: dead and unusual pictures, and a blog that collects the worst of them."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from openwit.workflows.demo import canvas
from openwit.workflows.demo.behaviours import Behaviour
from openwit.workflows.demo.concepts import Concept, unit_hash
from openwit.workflows.demo.sites import BLOG, HOSTS, Site, host

Fault = Literal["none", "missing", "gone", "error", "refused", "truncated", "cut", "markup", "text", "moved"]

# Share of the pictures of a site that are faulty; "text" and "moved" still lead to a whole picture.
FAULT_SHARES: tuple[tuple[Fault, float], ...] = (
    ("missing", 0.010),
    ("gone", 0.003),
    ("error", 0.003),
    ("refused", 0.002),
    ("truncated", 0.003),
    ("cut", 0.002),
    ("markup", 0.003),
    ("text", 0.003),
    ("moved", 0.004),
)
# A port nothing listens on: TCPMUX, long out of use.
REFUSED = "http://refused.localhost:1"
BOMB_SIDE = 20_000
_FAULTLESS_ROLES = ("held out", "refusing")


@dataclass(frozen=True)
class Oddment:
    """A picture on the blog."""

    src: str
    alt: str
    width: int = 0
    height: int = 0


def fault_of(site: Site, concept: Concept) -> Fault:
    """Return the fault of a site's picture of a concept, if any."""
    if site.role in _FAULTLESS_ROLES:
        return "none"
    chance = unit_hash("fault", site.name, concept.key)
    for fault, share in FAULT_SHARES:
        if chance < share:
            return fault
        chance -= share
    return "none"


def behaviour_of(fault: Fault, path: str, content_type: str) -> tuple[str, Behaviour] | None:
    """The path a page names for a faulty picture and how the server answers there; None: as it answers any path."""
    if fault == "gone":
        return path, Behaviour(kind="status", status=410)
    if fault == "error":
        return path, Behaviour(kind="status", status=500)
    if fault == "cut":
        return path, Behaviour(kind="cut")
    if fault == "markup":
        return path, Behaviour(kind="markup", content_type=content_type)
    if fault == "text":
        return path, Behaviour(kind="type", content_type="text/plain")
    if fault == "moved":
        return f"/moved{path}", Behaviour(kind="redirect", status=301, location=path)
    return None


def odd_files() -> dict[str, bytes]:
    """Files of the blog and every site's logo, by path below the web's folder."""
    files = {f"{name}/logo.png": _logo(name) for name in HOSTS if name != "cdn"}
    files[f"{BLOG}/pixel.gif"] = _encoded(Image.new("L", (1, 1), 255), "GIF")
    files[f"{BLOG}/icon16.png"] = _encoded(Image.new("RGB", (16, 16), (220, 40, 60)), "PNG")
    files[f"{BLOG}/banner.png"] = _encoded(
        canvas.mesh((1200, 90), [[(250, 200, 40), (240, 80, 90), (90, 60, 200)]]), "PNG"
    )
    files[f"{BLOG}/bomb.png"] = decompression_bomb(BOMB_SIDE)
    return files


def odd_behaviours(good: str) -> dict[str, Behaviour]:
    """How the blog's own paths answer; `good` is the address of a whole picture."""
    return {
        "/go/elsewhere.jpg": Behaviour(kind="redirect", status=302, location=good),
        "/go/round-a.jpg": Behaviour(kind="redirect", status=302, location="/go/round-b.jpg"),
        "/go/round-b.jpg": Behaviour(kind="redirect", status=302, location="/go/round-a.jpg"),
        "/go/inside.png": Behaviour(
            kind="redirect", status=307, location="http://169.254.169.254/latest/meta-data/a.png"
        ),
        "/slow/snail.jpg": Behaviour(kind="drip", content_type="image/jpeg", seconds=60),
        "/slow/turtle.png": Behaviour(kind="drip", content_type="image/png", seconds=60),
    }


def oddments(linked: list[Oddment]) -> list[Oddment]:
    """The blog's pictures: its own odd ones first, then those it links to elsewhere."""
    own = [
        Oddment("pixel.gif", "", 1, 1),
        Oddment("icon16.png", "small red heart icon", 16, 16),
        Oddment("banner.png", "banner with all colours of the sunset", 1200, 90),
        Oddment("bomb.png", "a very large map of the world"),
        Oddment("/go/elsewhere.jpg", "a sticker that lives on another site"),
        Oddment("/go/round-a.jpg", "a picture that goes round and round"),
        Oddment("/go/inside.png", "a picture of the inside of a computer"),
        Oddment("/slow/snail.jpg", "a snail on a long road"),
        Oddment("/slow/turtle.png", "a turtle in the sand"),
        Oddment("/never/was.jpg", "a picture of something that never was"),
        Oddment(f"{REFUSED}/closed.jpg", "the door of a closed house"),
        Oddment("http://no-such-host.invalid/lost.jpg", "a host that lost its name"),
        Oddment(f"http://{host('clipart')}/logo.png", "logo"),
    ]
    return own + linked


def decompression_bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, 1 bit each: tens of kilobytes that unpack to tens of megabytes."""
    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _logo(name: str) -> bytes:
    hue = unit_hash("logo", name)
    picture = Image.new("RGB", (160, 48), canvas.hsv(hue, 0.6, 0.5))
    ImageDraw.Draw(picture).text((12, 16), name, fill=(255, 255, 255))
    return _encoded(picture, "PNG")


def _encoded(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()
