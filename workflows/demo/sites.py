"""Declare the sites of the demo's web: what each shows, and how it draws, writes and encodes it."""

from dataclasses import dataclass
from typing import Literal

from openwit.workflows.demo.render import Encoding

PORT_TOKEN = "@PORT@"
"""Token for the port in the stored pages; the server replaces it by its own port."""

Role = Literal["training", "held out", "copies", "language", "refusing"]
CharsetDeclaration = Literal["header and meta", "meta", "header"]


@dataclass(frozen=True)
class Site:
    """One virtual host and its pictures."""

    name: str  # first label of the host name
    title: str
    role: Role
    template: str  # page template, without its ending
    style: str
    size: tuple[int, int]
    encoding: Encoding
    file: str  # path of a picture below the host, with {slug} and {key}
    alts: tuple[str, ...]
    captions: tuple[str, ...] = ("{Name}",)
    language: str = "en"
    share: float = 1.0  # of the concepts it shows
    most: int = 100_000  # and how many at most
    per_page: int = 100
    small: str | None = None  # path of a second file at half the size, with {slug} and {key}
    image_host: str | None = None  # another host that holds the pictures
    charset: str = "utf-8"
    declares: CharsetDeclaration = "header and meta"
    copies_of: str | None = None  # shows another site's renderings, re-encoded


def _small_site(name: str, title: str, language: str, alts: tuple[str, ...], **options: object) -> Site:
    settings: dict[str, object] = {
        "role": "language",
        "template": "small",
        "style": "postcard",
        "size": (200, 200),
        "encoding": Encoding("PNG"),
        "file": "/img/{slug}.png",
        "most": 96,
        "share": 0.12,
        "per_page": 48,
        "language": language,
        "alts": alts,
        **options,
    }
    return Site(name=name, title=title, **settings)  # type: ignore[arg-type]


_TRAINING = (
    Site(
        name="clipart",
        title="The Clip Art Drawer",
        role="training",
        template="clipart",
        style="clipart",
        size=(256, 256),
        encoding=Encoding("PNG"),
        file="/img/{slug}.png",
        per_page=200,
        alts=("{name}", "{a_name}", "{a_name}", "clip art of {a_name}"),
    ),
    Site(
        name="stickers",
        title="Sticker Sheet",
        role="training",
        template="stickers",
        style="sticker",
        size=(256, 256),
        encoding=Encoding("JPEG", 85),
        file="/media/{slug}-256.jpg",
        small="/media/{slug}-128.jpg",
        alts=("{Name}", "{a_name}", "this is {a_name}", "{Name} sticker"),
    ),
    Site(
        name="newsroom",
        title="The Daily Glyph",
        role="training",
        template="newsroom",
        style="press_photo",
        size=(320, 214),
        encoding=Encoding("JPEG", 78),
        file="/photos/{key}.jpg",
        per_page=12,
        alts=("{a_name}", "this is {a_name}", "a picture of {a_name}", "a photo of {a_name}"),
        captions=(
            "Seen in town this week: {a_name}. Nobody knows who left it there.",
            "Our readers asked for {a_name}, and here it is.",
            "What the {name} means to those who use it every day.",
        ),
    ),
    Site(
        name="shop",
        title="Pixel & Sons, everything for the desk",
        role="training",
        template="shop",
        style="product",
        size=(240, 240),
        encoding=Encoding("WEBP", 80),
        file="/i/{slug}.webp",
        small="/i/{slug}-s.webp",
        per_page=60,
        alts=("{Name}", "{a_name}", "{Name} - {group}", "small model of {a_name}"),
        captions=("{Name}, boxed", "{Name}, last pieces", "{Name} from the {group} range"),
    ),
    Site(
        name="sketchbook",
        title="A Drawing a Day",
        role="training",
        template="sketchbook",
        style="pencil",
        size=(192, 192),
        encoding=Encoding("PNG"),
        file="/drawings/{slug}.png",
        per_page=80,
        alts=("{a_name}", "this is {a_name}", "a picture of {a_name}", "a drawing of {a_name}"),
    ),
    Site(
        name="retro",
        title="Welcome to my icon collection!!!",
        role="training",
        template="retro",
        style="retro",
        size=(128, 128),
        encoding=Encoding("GIF"),
        file="/PICS/{slug}.GIF",
        per_page=150,
        charset="iso-8859-1",
        alts=("{Name}", "{a_name}", "a picture of {a_name}", "{name} gif"),
    ),
    Site(
        name="nightsky",
        title="Objects by Night",
        role="training",
        template="nightsky",
        style="night",
        size=(224, 224),
        encoding=Encoding("JPEG", 70),
        file="/night/{key}/{slug}.jpg",
        image_host="cdn",
        alts=("{a_name}", "this is {a_name}", "a picture of {a_name}", "{a_name} at night"),
    ),
)

_OTHERS = (
    Site(
        name="gallery",
        title="The Gallery",
        role="held out",
        template="gallery",
        style="framed_painting",
        size=(256, 256),
        encoding=Encoding("JPEG", 90),
        file="/works/{slug}.jpg",
        share=0.45,
        most=640,
        per_page=80,
        alts=("{a_name}", "a picture of {a_name}", "a painting of {a_name}"),
    ),
    Site(
        name="mirror",
        title="Free pictures mirror",
        role="copies",
        template="small",
        style="sticker",
        size=(180, 180),
        encoding=Encoding("WEBP", 55),
        file="/files/{slug}.webp",
        share=0.28,
        most=400,
        per_page=100,
        copies_of="stickers",
        alts=("{Name} sticker", "{name} free download", "{name}"),
    ),
    _small_site(
        "dibujos",
        "Dibujos para imprimir",
        "es",
        ("dibujo de {name} para colorear", "imagen de {name} para imprimir gratis", "{name}, dibujo para los niños"),
        file="/imágenes/{slug}.png",
        charset="iso-8859-1",
        declares="header",
    ),
    _small_site(
        "dessins",
        "Dessins à imprimer",
        "fr",
        (
            "dessin de {name} à imprimer",
            "image gratuite : {name} à colorier",
            "illustration avec {name} pour les enfants",
        ),
        charset="iso-8859-1",
        declares="meta",
        encoding=Encoding("JPEG", 82),
        file="/img/{slug}.jpg",
        size=(240, 240),
    ),
    _small_site(
        "bilder",
        "Bilder zum Ausmalen",
        "de",
        ("kostenloses Bild zum Ausmalen: {name}", "Zeichnung von {name} für Kinder", "{name} als Bild zum Ausdrucken"),
        encoding=Encoding("WEBP", 75),
        file="/img/{slug}.webp",
    ),
    _small_site(
        "irasuto",
        "無料イラスト素材",
        "ja",
        ("{name}のイラスト", "無料の{name}の絵です", "{name}の画像をダウンロードする"),
        charset="shift_jis",
        declares="meta",
        size=(180, 180),
    ),
    _small_site(
        "kartinki",
        "Картинки для детей",
        "ru",
        ("рисунок для детей: {name}", "картинка {name} для печати", "{name} — бесплатный рисунок"),
        charset="windows-1251",
        declares="header",
    ),
    _small_site(
        "desenhos",
        "Desenhos para colorir",
        "pt",
        ("desenho de {name} para colorir", "imagem grátis de {name} para imprimir", "{name}, desenho para crianças"),
        encoding=Encoding("BMP"),
        file="/img/{slug}.bmp",
        size=(112, 112),
    ),
    _small_site(
        "private",
        "A private collection",
        "en",
        ("{name} from a private collection", "{a_name}, private collection"),
        role="refusing",
        most=40,
    ),
    _small_site(
        "noai",
        "Not for machines",
        "en",
        ("{name} drawn by hand", "{a_name}, not for machines"),
        role="refusing",
        most=48,
    ),
    _small_site(
        "flaky",
        "Under maintenance",
        "en",
        ("{name} from the old server", "{a_name} as we had it before the move"),
        role="refusing",
        most=24,
    ),
)

SITES: tuple[Site, ...] = _TRAINING + _OTHERS
HELD_OUT = "gallery"
BLOG = "oddments"
"""The blog that links to pictures elsewhere, many of them faulty. Its pages come from faults.py."""
CDN = "cdn"
HOSTS: tuple[str, ...] = (*(site.name for site in SITES), BLOG, CDN)
FRONT_PAGES: tuple[str, ...] = (*(site.name for site in SITES), BLOG)
"""Hosts with pages, in the order the crawler starts them."""


def host(name: str) -> str:
    """The authority of a site's addresses, with the port left open."""
    return f"{name}.localhost:{PORT_TOKEN}"
