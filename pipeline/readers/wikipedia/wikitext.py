"""Convert wikitext to plain text, fast: the running text of an article, one line per sentence or block.

Not a parser: a few linear passes that remove what MediaWiki does not render as running text (templates, tables,
references, files, formulas) and unwrap the rest (links, emphasis, lists, headings). A line break separates words that
do not follow each other in the text, so that no bigram crosses a heading, a paragraph, a list item, a sentence or what
was removed. The time is linear in the length of the text, whatever it holds.
"""

import re
from collections.abc import Iterator

from openwit.pipeline.readers.wikipedia.boilerplate import is_boilerplate, without_identifiers
from openwit.schemas.common.html_text import unescape

# Stands where something was removed, until it becomes a line break. XML cannot hold this character.
_CUT = "\x1e"
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_NOWIKI_START = re.compile(r"<nowiki\s*>", re.IGNORECASE)
_NOWIKI_END = re.compile(r"</nowiki\s*>", re.IGNORECASE)
_NOWIKI_SPECIAL = re.compile(r"[\[\]{}|'<>=*#:;&_]")
# Elements that are not running text: removed with their content.
_DROPPED = re.compile(
    r"<(/?)(ref|math|chem|ce|gallery|timeline|score|hiero|syntaxhighlight|source|pre|code|graph|imagemap|inputbox|"
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
_LABELLED_URL = re.compile(r"\[(?:https?:|ftp:|mailto:|news:|irc:)?//[^\s\[\]]*+[ \t]*+([^\[\]\n]*+)\]")
_BARE_URL = re.compile(r"https?://[^\s\[\]|<>\"]+")

_BLOCK_TAG = re.compile(
    r"</?(?:br|p|div|li|ul|ol|dl|dd|dt|table|tr|td|th|caption|h[1-6]|blockquote|center|hr|poem)\b[^<>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}>")
_EMPHASIS = re.compile(r"''+")
_FOUR_QUOTES = re.compile(r"(?<!')''''(?!')")  # bold, and an apostrophe
_HEADING_LINE = re.compile(rf"^[ \t{_CUT}]*+=[^\n]*+", re.MULTILINE)
_MAX_HEADING = 300
_HEADING_BLANKS = f" \t{_CUT}"
_LIST_MARK = re.compile(r"^[ \t]*+[*#:;]++[ \t]*+|^-{4,}+", re.MULTILINE)
_MAGIC_WORD = re.compile(r"__[A-Z]{3,30}__")
# A sentence ends before a capital, a digit or a quote; not after an initial ("J. Smith") or a title ("Dr. Smith").
_SENTENCE_END = re.compile(
    r"([.!?](?<=[^\W\d_]{2}.)(?<!Mr\.)(?<!Mrs\.)(?<!Ms\.)(?<!Dr\.)(?<!St\.)(?<!Jr\.)(?<!vs\.)(?<!Prof\.)"
    r"[\"')\]”’]*) (?=[\"'(\[“‘]*[^\W_a-z])"
)
_IDEOGRAPHIC_END = re.compile("([。！？])")

_MAX_NESTING = 6


def link_targets(wikitext: str) -> Iterator[str]:
    """Yield the names of the pages that an article links to, as written, without sections and labels."""
    for match in _LINK_TARGET.finditer(wikitext):
        yield match.group(1).replace("_", " ").strip()


def plain_text(wikitext: str) -> str:
    """Return the running text of an article, with headings and list items, lines separated by one newline.

    Templates, tables, references, formulas, galleries and code are removed and leave a line break, since the words on
    both sides do not follow each other; so are URLs and identifiers such as ISBNs, and headings that most articles
    have ("External links"). File and category links, comments and tags are removed; links, emphasis, lists and other
    headings are unwrapped; `nowiki` keeps its content; entities are decoded. Never raises.
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
        text = _BARE_URL.sub(_CUT, text)
    if "<" in text:
        text = _BLOCK_TAG.sub("\n", text)
        text = _TAG.sub("", text)
    if "''''" in text:
        text = _FOUR_QUOTES.sub("'", text)
    text = _EMPHASIS.sub("", text)
    text = _HEADING_LINE.sub(_heading, text)
    text = _LIST_MARK.sub("", text)
    if "__" in text:
        text = _MAGIC_WORD.sub("", text)
    if "&" in text:
        text = unescape(text)
    text = without_identifiers(text, _CUT).replace(_CUT, "\n")
    text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
    text = _SENTENCE_END.sub(r"\1\n", text)
    if any(end in text for end in "。！？"):
        text = _IDEOGRAPHIC_END.sub(r"\1\n", text)
        text = "\n".join(filter(None, map(str.strip, text.split("\n"))))
    return text


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
    open_at: dict[str, list[int]] = {"{{": [], "{|": []}
    for match in _BRACES.finditer(text):
        token = match.group()[-2:]
        if token in open_at:
            open_at[token].append(match.start())
            continue
        closed, others = (open_at["{{"], open_at["{|"]) if token == "}}" else (open_at["{|"], open_at["{{"])
        if closed:
            start = closed.pop()
            while others and others[-1] > start:
                others.pop()
            cut.add(start, match.end())
    return cut.apply(text)


def _heading(match: re.Match[str]) -> str:
    """Return a heading's text on a line of its own; an empty line for one that most articles have."""
    line = match.group().strip(_HEADING_BLANKS)
    size = len(line)
    level = min(6, (size - 1) // 2, size - len(line.lstrip("=")), size - len(line.rstrip("=")))
    title = line[level : size - level].strip(_HEADING_BLANKS)
    if level < 1 or len(title) > _MAX_HEADING:
        return match.group()
    return "\n" if is_boilerplate(title) else f"\n{title}\n"


class _Cuts:
    """Collect spans to remove from a text, in the order of their ends; a later span absorbs those inside it."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        while self._spans and self._spans[-1][0] >= start:
            self._spans.pop()
        self._spans.append((start, end))

    def apply(self, text: str) -> str:
        """Return the text with each span replaced by a cut."""
        if not self._spans:
            return text
        parts = []
        position = 0
        for start, end in self._spans:
            parts.append(text[position:start])
            position = end
        parts.append(text[position:])
        return f" {_CUT} ".join(parts)


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
