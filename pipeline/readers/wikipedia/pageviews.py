"""Sum the page views of each article of one language's Wikipedia from Wikimedia's hourly and daily files.

Hourly (https://dumps.wikimedia.org/other/pageviews/, fields and domain codes as at
https://wikitech.wikimedia.org/wiki/Analytics/Pagecounts-raw): `domain_code page_title count_views
total_response_size`, where `en` is the desktop site of the English Wikipedia, `en.m` its mobile site and `en.zero`
the former Wikipedia Zero; `en.d`, `en.m.d` are other projects.
An unknown title is `-`. Daily and monthly (.../other/pageview_complete/): `en.wikipedia Title 123 desktop 42 A1B41`,
one line for each of desktop, mobile-web and mobile-app, with the page id `null` where unknown and the hours (or days)
after the sum. A title with quotation marks is quoted there, with its own marks escaped by a backslash.

MetaCLIP uses from 26 days of hourly files the desktop site only, lines of at least 50 views, and drops each title with
a colon. Here desktop and mobile are added, and only titles of other namespaces are dropped: "Star Trek: Picard" is
kept.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.readers.crawl.archive_file import Source, open_source
from openwit.pipeline.readers.crawl.decompress import DUMP_DAMAGED, plain_chunks
from openwit.pipeline.readers.wikipedia.wikidump import OTHER_NAMESPACE
from openwit.schemas.common.errors import RecipeError

LINES = "lines"
LINES_ADDED = "lines_added"
VIEW_NOTES = (LINES, LINES_ADDED, DUMP_DAMAGED)
"""Notes counted beside the reasons: lines seen, lines added up, and stretches of the file that could not be read."""

OTHER_PROJECT = Reason("other_project", "views of another project than the Wikipedia asked for")
BAD_LINE = Reason("bad_line", "a line of the page views that could not be read")
TOO_FEW_VIEWS = Reason("too_few_views", "a title with fewer views than asked for")
NO_TITLE = Reason("no_title", "views without a title")
BAD_TITLE = Reason("bad_title", "views of something that is no title")
VIEW_REASONS = (OTHER_PROJECT, BAD_LINE, TOO_FEW_VIEWS, NO_TITLE, BAD_TITLE, OTHER_NAMESPACE)
"""Why a line is not added up; lines = lines added up + the sum of the reasons.

`other_project`: it does not begin with a code of the language's Wikipedia. `bad_line`: it does, but the rest cannot be
parsed, or it is cut off. `bad_title`: not UTF-8, or with a character that MediaWiki does not allow in titles.
"""

_MAX_LINE_BYTES = 1 << 20
_LANGUAGE = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_ILLEGAL = re.compile(r"[#<>\[\]|{}\x00-\x1f\x7f\ufffd]")  # https://www.mediawiki.org/wiki/Manual:Page_title

_CANONICAL = (
    "Project|User|File|Image|MediaWiki|Template|Help|Category|Wikipedia|Portal|Draft|Module|TimedText|Gadget|"
    "Gadget definition|Event"
)
_CANONICAL_ALONE = "Media|Special|Talk|Topic|WP|WT"
_ENGLISH = "Book|Education Program|MOS"

_LOCAL: dict[str, tuple[str, str, str]] = {
    # language: (patterns of talk namespaces, namespaces that have one, other namespaces and irregular talk namespaces)
    "de": (
        "{} Diskussion",
        "Benutzer|Benutzerin|Wikipedia|Datei|Bild|MediaWiki|Vorlage|Hilfe|Kategorie|Portal|Modul",
        "Medium|Spezial|Diskussion|BD|WD|HD|PD|H|P",
    ),
    "es": (
        "{} discusión",
        "Usuario|Usuaria|Wikipedia|Archivo|Imagen|MediaWiki|Plantilla|Ayuda|Categoría|Portal|Wikiproyecto|Anexo|Módulo",
        "Medio|Especial|Discusión",
    ),
    "fr": (
        "Discussion {}",
        "Utilisateur|Utilisatrice|Wikipédia|Fichier|Image|MediaWiki|Modèle|Aide|Catégorie|Portail|Projet|Référence|"
        "Module",
        "Média|Spécial|Discussion",
    ),
    "it": (
        "Discussioni {}",
        "Utente|Wikipedia|File|Immagine|MediaWiki|Template|Aiuto|Categoria|Portale|Progetto|Modulo|Bozza",
        "Speciale|Discussione",
    ),
    "ja": (
        "{}‐ノート|{}・トーク|{}‐会話",
        "利用者|Wikipedia|ファイル|画像|MediaWiki|Template|テンプレート|Help|ヘルプ|Category|カテゴリ|Portal|ポータル|"
        "プロジェクト|モジュール",
        "メディア|特別|ノート|トーク",
    ),
    "nl": (
        "Overleg {}",
        "Gebruiker|Wikipedia|Bestand|Afbeelding|MediaWiki|Sjabloon|Help|Categorie|Portaal|Module",
        "Speciaal|Overleg",
    ),
    "pl": (
        "",
        "Użytkownik|Użytkowniczka|Wikipedysta|Wikipedystka|Plik|Grafika|Szablon|Pomoc|Kategoria|Moduł|Wikiprojekt",
        "Specjalna|Dyskusja|Dyskusja użytkownika|Dyskusja użytkowniczki|Dyskusja wikipedysty|Dyskusja wikipedystki|"
        "Dyskusja Wikipedii|Dyskusja pliku|Dyskusja grafiki|Dyskusja MediaWiki|Dyskusja szablonu|Dyskusja pomocy|"
        "Dyskusja kategorii|Dyskusja portalu|Dyskusja modułu|Dyskusja Wikiprojektu",
    ),
    "pt": (
        "{} Discussão",
        "Usuário|Usuária|Usuário(a)|Utilizador|Utilizadora|Wikipédia|Ficheiro|Arquivo|Imagem|MediaWiki|Predefinição|"
        "Ajuda|Categoria|Portal|Módulo|Anexo|Livro",
        "Multimédia|Especial|Discussão|Tópico",
    ),
    "ru": (
        "",
        "Участник|Участница|Википедия|Файл|Изображение|Шаблон|Справка|Категория|Портал|Модуль|Инкубатор|Проект|"
        "Арбитраж|ВП",
        "Медиа|Служебная|Обсуждение|Обсуждение участника|Обсуждение участницы|Обсуждение Википедии|Обсуждение файла|"
        "Обсуждение изображения|Обсуждение MediaWiki|Обсуждение шаблона|Обсуждение справки|Обсуждение категории|"
        "Обсуждение портала|Обсуждение модуля|Обсуждение Инкубатора|Обсуждение проекта|Обсуждение арбитража",
    ),
    "sv": (
        "{}diskussion|{}-diskussion",
        "Wikipedia|Fil|Bild|MediaWiki|Mall|Hjälp|Kategori|Portal|Modul",
        "Diskussion|Användare|Användardiskussion",
    ),
    "zh": (
        "{}讨论|{}討論|{}对话|{}對話",
        "用户|用戶|使用者|维基百科|維基百科|文件|档案|檔案|图像|圖像|MediaWiki|模板|样板|樣板|帮助|幫助|使用說明|"
        "分类|分類|主题|主題|模块|模組|草稿|WikiProject|维基专题|維基專題",
        "媒体|媒體|特殊|讨论|討論|对话|對話",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Wiki:
    """Recognise the lines of one language's Wikipedia: for each format its line starts and (title, views)."""

    formats: tuple[tuple[tuple[bytes, ...], re.Pattern[bytes]], ...]
    namespaces: frozenset[str]


def sum_views(source: Source, language: str, *, min_views: int = 1, count: Count = ignore) -> Counter[str]:
    """Sum the views of each article of one language's Wikipedia, desktop and mobile.

    The caller adds the sums of several files: lines are counted independently of each other.

    Args:
        source: a path, a URL for fsspec, or an open binary file; gzip, bzip2, zstd or plain, from its magic bytes.
        language: Wikipedia's code of the language: "en", "de", "simple", "zh-yue".
        min_views: lines with fewer views are not added. A line is one hour, day or month of one title on one site.
        count: receives `LINES` for each line, one of `VIEW_REASONS` for each that is not added, and `DUMP_DAMAGED`
            where the rest of the file cannot be read; everything before is read.

    Returns:
        Views by title, in the file's order: with spaces, percent-decoded, otherwise as requested, so that a
        redirect's views are counted under its own name.

    Raises:
        RecipeError: the language is not a code.
        DataError, NetworkError: the file cannot be opened.
    """
    wiki = _wiki(language)
    sums: dict[str, int] = {}  # a Counter is slower to count with
    file, stack = open_source(source)
    with stack:
        for block in _blocks(plain_chunks(file, count), count):
            lines = block.count(b"\n") - 1
            count(LINES, lines)
            ours = 0
            for starts, pattern in wiki.formats:
                found = sum(block.count(start) for start in starts)
                ours += found
                if found:
                    _add(sums, _rows(block, starts, pattern), found, min_views, wiki.namespaces, count)
            if ours < lines:
                count(OTHER_PROJECT, lines - ours)
    return Counter(sums)


def namespaces(language: str) -> frozenset[str]:
    """Return the names of all namespaces except the main one, case-folded: English ones and those of the language.

    For languages without an entry only the English names are known; MediaWiki accepts these in every wiki.
    """
    forms, spaces, alone = _LOCAL.get(language, ("", "", ""))
    names = [*_CANONICAL.split("|"), *_CANONICAL_ALONE.split("|"), *spaces.split("|"), *alone.split("|")]
    names += [f"{space} talk" for space in _CANONICAL.split("|")]
    if language in ("en", "simple"):
        names += [name for space in _ENGLISH.split("|") for name in (space, f"{space} talk")]
    if forms:
        names += [form.format(space) for form in forms.split("|") for space in spaces.split("|")]
    return frozenset(name.casefold() for name in names if name)


@functools.lru_cache(maxsize=16)
def _wiki(language: str) -> _Wiki:
    if not _LANGUAGE.fullmatch(language):
        raise RecipeError(f"{language!r} is not a language code of a Wikipedia: use one like en, de or zh-yue")
    code = re.escape(language.encode())
    hourly = re.compile(rb"\n%b(?:\.m|\.zero)?+ ([^ \n]*+) (\d{1,15}+)(?: [^ \n]*+)?+(?=\n)" % code)
    complete = re.compile(
        rb"\n%b\.wikipedia ([^ \n]*+) (?:(?:\d+|null) )?+[a-z-]++ (\d{1,15}+)(?: [^ \n]*+)?+(?=\n)" % code
    )
    return _Wiki(
        (
            (tuple(f"\n{language}{site} ".encode() for site in ("", ".m", ".zero")), hourly),
            ((f"\n{language}.wikipedia ".encode(),), complete),
        ),
        namespaces(language),
    )


def _blocks(chunks: Iterator[bytes], count: Count) -> Iterator[bytes]:
    """Yield whole lines, with a newline before the first and after the last; count lines too long or cut off."""
    rest = b"\n"
    too_long = False
    for chunk in chunks:
        if not chunk:
            if rest != b"\n" or too_long:
                _count_bad(count, "a line is cut off")
            return
        block = rest + chunk
        end = block.rfind(b"\n")
        if too_long:
            begin = block.find(b"\n", 1)
            if begin < 0:
                continue
            too_long = False
            _count_bad(count, f"a line of more than {_MAX_LINE_BYTES} bytes")
            block = block[begin:]
            end -= begin
        if end > 0:
            yield block[: end + 1]
        rest = block[end:]
        if len(rest) > _MAX_LINE_BYTES:
            too_long = True
            rest = b"\n"
    if too_long:
        _count_bad(count, f"a line of more than {_MAX_LINE_BYTES} bytes")
    elif rest != b"\n":
        yield rest + b"\n"


def _count_bad(count: Count, detail: str) -> None:
    count(LINES)
    count(BAD_LINE, 1, detail)


def _rows(block: bytes, starts: tuple[bytes, ...], pattern: re.Pattern[bytes]) -> list[tuple[bytes, bytes]]:
    """Return (title, views) of the valid lines. Searches only the wiki's part: files are sorted by code."""
    begin = min(found for start in starts if (found := block.find(start)) >= 0)
    last = max(block.rfind(start) for start in starts)
    end = block.find(b"\n", last + 1)
    rows: list[tuple[bytes, bytes]] = pattern.findall(block[begin : end + 1].replace(b"\r\n", b"\n"))
    return rows


def _add(
    sums: dict[str, int],
    rows: list[tuple[bytes, bytes]],
    lines: int,
    min_views: int,
    namespaces: frozenset[str],
    count: Count,
) -> None:
    if len(rows) < lines:
        count(BAD_LINE, lines - len(rows))
    few = added = 0
    reasons: Counter[str] = Counter()
    for raw, digits in rows:
        views = int(digits)
        if views < min_views:
            few += 1
            continue
        title = _title(raw)
        if title is None:
            reasons[BAD_TITLE] += 1
        elif not title or title == "-":
            reasons[NO_TITLE] += 1
        elif ":" in title and _namespace(title) in namespaces:
            reasons[OTHER_NAMESPACE] += 1
        else:
            sums[title] = sums.get(title, 0) + views
            added += 1
    count(LINES_ADDED, added)
    if few:
        count(TOO_FEW_VIEWS, few)
    for reason, n in reasons.items():
        count(reason, n)


def _title(raw: bytes) -> str | None:
    if raw.startswith(b'"') and raw.endswith(b'"') and b'\\"' in raw:
        raw = raw[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    if b"%" in raw and _ESCAPE.search(raw):
        raw = unquote_to_bytes(raw)
    try:
        title = raw.decode()
    except UnicodeDecodeError:
        return None
    return None if _ILLEGAL.search(title) else title.replace("_", " ").strip()


def _namespace(title: str) -> str:
    return " ".join(title.partition(":")[0].split()).casefold()
