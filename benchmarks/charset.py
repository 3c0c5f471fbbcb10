"""Charsets of pages that declare none: exact pages and time, against charset-normalizer, by language and length.

    python benchmarks/charset.py --data ../shared/data

Pages are made of seeded draws of languages.parquet (sentences of the languages of `ENCODINGS`), in each of the legacy
encodings that a language was written in, at three lengths of text. A page is right when every character of it is.
Three forms: nothing declares anything; `<html lang=…>` names the language; a `<meta charset>` names the encoding.
The peer gets the same bytes in the same run; it reads no hints.
"""

import argparse
import random
import re
import time
from collections import defaultdict
from pathlib import Path

import charset_normalizer
import pyarrow.parquet as pq

from openwit.pipeline.readers.pages.charset import to_utf8

ENCODINGS = {
    "en": ("cp1252",), "de": ("cp1252", "iso8859-15"), "fr": ("cp1252", "iso8859-15"), "es": ("cp1252",),
    "it": ("cp1252",), "pt": ("cp1252",), "nl": ("cp1252",), "sv": ("cp1252",), "da": ("cp1252",), "nb": ("cp1252",),
    "fi": ("cp1252", "iso8859-15"), "is": ("cp1252",), "ca": ("cp1252",),
    "pl": ("cp1250", "iso8859-2"), "cs": ("cp1250", "iso8859-2"), "sk": ("cp1250", "iso8859-2"),
    "hu": ("cp1250", "iso8859-2"), "ro": ("cp1250", "iso8859-2"), "hr": ("cp1250", "iso8859-2"), "sl": ("cp1250",),
    "ru": ("cp1251", "koi8-r", "iso8859-5", "cp866"), "uk": ("cp1251", "koi8-u"), "bg": ("cp1251",), "sr": ("cp1251",),
    "el": ("cp1253", "iso8859-7"), "tr": ("cp1254",), "he": ("cp1255", "iso8859-8"), "ar": ("cp1256", "iso8859-6"),
    "lt": ("cp1257",), "lv": ("cp1257",), "et": ("cp1257", "cp1252"), "th": ("cp874",), "vi": ("cp1258",),
    "ja": ("cp932", "euc_jp", "iso2022_jp"), "zh": ("gb18030", "big5"), "ko": ("cp949",),
}  # fmt: skip
LABELS = {
    "cp1258": "windows-1258",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "cp874": "windows-874",
    "euc_jp": "euc-jp",
}
LENGTHS = (200, 1_000, 5_000)
FORMS = ("nothing declared", "language named", "charset named")


def label_of(codec: str) -> str:
    """Return the label that a page writes for a codec."""
    if codec.startswith("cp125"):
        return f"windows-{codec[2:]}"
    if codec == "cp866":
        return "ibm866"
    return LABELS.get(codec, codec.replace("iso8859", "iso-8859").replace("iso2022_jp", "iso-2022-jp"))


def page(text: str, language: str, codec: str, form: str) -> str:
    """Return a page with a text."""
    lang = f' lang="{language}"' if form == "language named" else ""
    meta = f'<meta charset="{label_of(codec)}">' if form == "charset named" else ""
    head = f"<!DOCTYPE html><html{lang}><head>{meta}<title>a</title></head>"
    return f'{head}<body><div class="x"><p>{text}</p></div></body>'


def draws(texts: list[str], codec: str, length: int, times: int, rng: random.Random) -> list[str]:
    """Return texts of about `length` bytes that the codec can write and that are not ASCII."""
    fits = [text for text in texts if _writable(text, codec)]
    found = []
    for _ in range(times * 4):
        parts: list[str] = []
        while fits and sum(len(part.encode(codec)) for part in parts) < length:
            parts.append(rng.choice(fits))
        text = "\n".join(parts)
        if text and not text.isascii():
            found.append(text)
        if len(found) == times:
            break
    return found


def _writable(text: str, codec: str) -> bool:
    if re.search("[\x80-\x9f]", text):
        return False  # texts of the source that were decoded wrongly before
    try:
        return text.encode(codec).decode(codec) == text
    except UnicodeError:
        return False


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--times", type=int, default=4, help="pages per language, encoding, length and form")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    texts = defaultdict(list)
    for row in pq.read_table(arguments.data / "languages.parquet").to_pylist():
        if row["kind"] == "sentences":
            texts[row["lang"]].append(row["text"])
    rng = random.Random(arguments.seed)
    right: dict[tuple[str, int, str], list[bool]] = defaultdict(list)
    by_language: dict[str, list[bool]] = defaultdict(list)
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    wrong = []
    pages: dict[str, int] = defaultdict(int)
    for language, codecs in ENCODINGS.items():
        for codec in codecs:
            for length in LENGTHS:
                drawn = draws(texts[language], codec, length, arguments.times, rng)
                pages[f"{language} {codec}"] += len(drawn)
                for text in drawn:
                    for form in FORMS:
                        document = page(text, language, codec, form)
                        body = document.encode(codec)
                        before = time.process_time()
                        found = to_utf8(body)
                        took = time.process_time() - before
                        same = (found if isinstance(found, str) else found.decode("utf-8", "replace")) == document
                        right["openwit", length, form].append(same)
                        if form == "nothing declared":
                            by_language[language].append(same)
                            seconds["openwit", length].append(took)
                            if not same:
                                wrong.append(f"{language} {codec} {length}")
                            before = time.process_time()
                            best = charset_normalizer.from_bytes(body).best()
                            seconds["peer", length].append(time.process_time() - before)
                            right["peer", length, form].append(best is not None and str(best) == document)
    print(
        "| bytes of text | pages | "
        + " | ".join(FORMS)
        + " | charset-normalizer, nothing declared | ms, ours / peer |"
    )
    print("|---|---|---|---|---|---|---|")
    for length in LENGTHS:
        shares = [
            f"{100 * sum(right['openwit', length, form]) / len(right['openwit', length, form]):.1f} %"
            for form in FORMS
        ]
        peer = right["peer", length, FORMS[0]]
        times = [1000 * sum(seconds[who, length]) / len(seconds[who, length]) for who in ("openwit", "peer")]
        print(
            f"| {length:,} | {len(peer)} | {' | '.join(shares)} | {100 * sum(peer) / len(peer):.1f} % | "
            f"{times[0]:.1f} / {times[1]:.1f} |"
        )
    worst = sorted(by_language.items(), key=lambda item: sum(item[1]) / len(item[1]))
    print("\nBelow 100 %: " + ", ".join(f"{name} {sum(hits)}/{len(hits)}" for name, hits in worst if not all(hits)))
    expected = arguments.times * len(LENGTHS)
    fewer = [f"{name} {n}/{expected}" for name, n in pages.items() if n < expected]
    drawn_pairs = sum(n > 0 for n in pages.values())
    print(f"Pairs with pages: {drawn_pairs} of {len(pages)}; fewer than asked: {', '.join(fewer)}")
    print("Wrong: " + ", ".join(sorted(set(wrong))))


if __name__ == "__main__":
    main()
