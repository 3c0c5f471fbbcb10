"""Convert wikitext to plain text, fast: the running text of an article, one line per sentence or block.

Not a parser: a few linear passes that remove what MediaWiki does not render as running text (templates, tables,
references, files, formulas) and unwrap the rest (links, emphasis, lists, headings). A line break separates words that
do not follow each other in the text, so that no bigram crosses a heading, a paragraph, a list item or a sentence.
"""

import html
import re
from collections.abc import Iterator

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_NOWIKI_START = re.compile(r"<nowiki\s*>", re.IGNORECASE)
_NOWIKI_END = re.compile(r"</nowiki\s*>", re.IGNORECASE)
_NOWIKI_SPECIAL = re.compile(r"[\[\]{}|'<>=*#:;&_]")
# Elements that are not running text: removed with their content.
_DROPPED = re.compile(
    r"<(/?)(ref|math|chem|ce|gallery|timeline|score|hiero|syntaxhighlight|source|pre|graph|imagemap|inputbox|"
    r"templatedata|categorytree|section|mapframe|maplink|references|nowiki)\b[^<>]*?(/?)>",
    re.IGNORECASE,
)
_BRACES = re.compile(r"\{\{|\}\}|\n[ \t:*]*\{\||\n[ \t]*\|\}(?!\})")

_FILE_NAMES = (
    "file|image|media|datei|bild|fichier|archivo|imagen|immagine|ficheiro|arquivo|imagem|bestand|afbeelding|plik|grafika|"
    "fil|tiedosto|kuva|soubor|obrázek|súbor|fájl|kép|fișier|imagine|датотека|файл|изображение|зображення|dosya|resim|"
    "berkas|gambar|tập tin|hình|ملف|صورة|پرونده|קובץ|תמונה|चित्र|ไฟล์|ภาพ|αρχείο|"
    "ファイル|画像|파일|그림|文件|档案|檔案|图像|圖像"
)
_CATEGORY_NAMES = (
    "category|kategorie|catégorie|categoría|categoria|categorie|kategoria|kategori|luokka|kategória|категория|категорія|"
    "категорија|thể loại|تصنيف|رده|קטגוריה|श्रेणी|หมวดหมู่|κατηγορία|カテゴリ|분류|分类|分類"
)
_DROPPED_LINK = re.compile(
    rf"\[\[\s*(?:(?:{_FILE_NAMES}|{_CATEGORY_NAMES})\s*:[^\[\]]*|[a-z]{{2,3}}(?:-[a-z]{{2,8}})?:[^\[\]|]*)\]\]",
    re.IGNORECASE,
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?:?([^\[\]]*)\]\]")
_LINK_TARGET = re.compile(r"\[\[:?([^\[\]|#\n]+)")
_LABELLED_URL = re.compile(r"\[(?:https?:|ftp:|mailto:|news:|irc:)?//[^\s\[\]]*[ \t]*([^\[\]\n]*)\]")
_BARE_URL = re.compile(r"https?://[^\s\[\]|<>\"]+")

_BLOCK_TAG = re.compile(
    r"</?(?:br|p|div|li|ul|ol|dl|dd|dt|table|tr|td|th|caption|h[1-6]|blockquote|center|hr|poem)\b[^<>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
_EMPHASIS = re.compile(r"''+")
_FOUR_QUOTES = re.compile(r"(?<!')''''(?!')")  # bold, and an apostrophe
_HEADING = re.compile(r"^[ \t]*(={1,6})[ \t]*(.{1,300}?)[ \t]*\1[ \t]*$", re.MULTILINE)
_LIST_MARK = re.compile(r"^[ \t]*[*#:;]+[ \t]*|^-{4,}", re.MULTILINE)
_MAGIC_WORD = re.compile(r"__[A-Z]{3,30}__")
# A sentence ends before a capital, a digit or a quote; not after an initial ("J. Smith") or a title ("Dr. Smith").
_SENTENCE_END = re.compile(
    r"([.!?](?<=[^\W\d_]{2}.)(?<!Mr\.)(?<!Mrs\.)(?<!Ms\.)(?<!Dr\.)(?<!St\.)(?<!Jr\.)(?<!vs\.)(?<!Prof\.)"
    r"[\"')\]”’]*) (?=[\"'(\[“‘]*[^\W_a-z])"
)
_IDEOGRAPHIC_END = re.compile("([。！？])")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")

_MAX_NESTING = 6
_MAX_DEPTH = 100  # how many unpaired openings a closing brace is compared with


def link_targets(wikitext: str) -> Iterator[str]:
    """Yield the names of the pages that an article links to, as written, without sections and labels."""
    for match in _LINK_TARGET.finditer(wikitext):
        yield match.group(1).replace("_", " ").strip()


def plain_text(wikitext: str) -> str:
    """Return the running text of an article, with headings and list items, lines separated by one newline.

    Templates, tables, references, formulas, galleries, file and category links, comments and tags are removed; links,
    emphasis, lists and headings are unwrapped; `nowiki` keeps its content; entities are decoded. Never raises.
    """
    text = wikitext
    if "<" in text:
        text = _COMMENT.sub("", text)
        text = _with_protected_nowiki(text)
        text = _without_elements(text)
    text = _without_braces("\n" + text)
    text = _without_links(text)
    if "//" in text:
        text = _LABELLED_URL.sub(r"\1", text)
        text = _BARE_URL.sub(" ", text)
    if "<" in text:
        text = _BLOCK_TAG.sub("\n", text)
        text = _TAG.sub("", text)
    if "''''" in text:
        text = _FOUR_QUOTES.sub("'", text)
    text = _EMPHASIS.sub("", text)
    text = _HEADING.sub(r"\n\2\n", text)
    text = _LIST_MARK.sub("", text)
    if "__" in text:
        text = _MAGIC_WORD.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    text = _SPACES.sub(" ", text)
    text = _SENTENCE_END.sub(r"\1\n", text)
    if "。" in text:
        text = _IDEOGRAPHIC_END.sub(r"\1\n", text)
    return "\n".join(filter(None, map(str.strip, text.split("\n"))))


def _with_protected_nowiki(text: str) -> str:
    """Unwrap nowiki; the markup of its content becomes entities, which are decoded last."""
    parts = []
    position = 0
    while (start := _NOWIKI_START.search(text, position)) and (end := _NOWIKI_END.search(text, start.end())):
        parts.append(text[position : start.start()])
        content = text[start.end() : end.start()]
        parts.append(_NOWIKI_SPECIAL.sub(lambda special: f"&#{ord(special.group())};", content))
        position = end.end()
    parts.append(text[position:])
    return "".join(parts)


def _without_elements(text: str) -> str:
    """Remove elements without running text, with tags and content; unpaired tags are removed later."""
    cut = _Cuts()
    open_at: dict[str, int] = {}
    for match in _DROPPED.finditer(text):
        name = match.group(2).lower()
        if match.group(1):
            start = open_at.get(name)
            if start is not None:
                cut.add(start, match.end())
                open_at = {other: at for other, at in open_at.items() if at < start}
        elif match.group(3):
            cut.add(match.start(), match.end())
        else:
            # <references> may contain <ref>, the others never contain their own kind: the last opening counts.
            open_at[name] = match.start()
    return cut.apply(text)


def _without_braces(text: str) -> str:
    """Remove templates `{{…}}` and tables `{|…|}`, with nesting; unpaired braces are kept."""
    cut = _Cuts()
    open_at: list[tuple[str, int]] = []
    for match in _BRACES.finditer(text):
        token = match.group()[-2:]
        if token in ("{{", "{|"):
            open_at.append((token, match.start()))
            continue
        opening = "{{" if token == "}}" else "{|"
        for depth in range(len(open_at) - 1, max(-1, len(open_at) - _MAX_DEPTH), -1):
            if open_at[depth][0] == opening:
                cut.add(open_at[depth][1], match.end())
                del open_at[depth:]
                break
    return cut.apply(text)


class _Cuts:
    """Collect spans to remove from a text, in the order of their ends; a later span absorbs those inside it."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        while self._spans and self._spans[-1][0] >= start:
            self._spans.pop()
        self._spans.append((start, end))

    def apply(self, text: str) -> str:
        """Return the text with each span replaced by a space."""
        if not self._spans:
            return text
        parts = []
        position = 0
        for start, end in self._spans:
            parts.append(text[position:start])
            position = end
        parts.append(text[position:])
        return " ".join(parts)


def _without_links(text: str) -> str:
    """Unwrap links from the inside out, since captions of files contain links."""
    for _ in range(_MAX_NESTING):
        if "[[" not in text:
            break
        before = text
        text = _DROPPED_LINK.sub("", text)
        text = _LINK.sub(r"\1", text)
        if text == before:
            break
    return text
