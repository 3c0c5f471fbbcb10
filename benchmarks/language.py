"""Language identification against langdetect: texts per CPU second, and English against the rest by text length.

    python benchmarks/language.py --data ../shared/data

Texts: every English text of languages.parquet (75 languages; sentences and word pairs), a seeded sample of each other
language, and seeded samples of COCO's English and LAION's Korean captions. Both identifiers see the same texts, one
after the other in one process. "Kept" is what the candidates stage does with `languages: [en]`; langdetect's answer is
its arg-max, with its seed set to 0.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import langdetect
import pyarrow.parquet as pq

from openwit.pipeline.text.language import LanguageIdentifier, keeps
from openwit.pipeline.text.settings import LanguageSettings

LENGTHS = ((0, 15), (15, 25), (25, 50), (50, 100), (100, 100_000))


def sample_texts(data: Path, per_language: int, captions: int, seed: int) -> list[tuple[str, bool, str]]:
    """(group, is English, text) rows."""
    rng = random.Random(seed)
    rows: list[tuple[str, bool, str]] = []
    groups = defaultdict(list)
    for row in pq.read_table(data / "languages.parquet").to_pylist():
        groups[row["kind"], row["lang"]].append(row["text"])
    for (kind, language), texts in sorted(groups.items()):
        chosen = texts if language == "en" else rng.sample(texts, min(per_language, len(texts)))
        rows.extend((kind, language == "en", text) for text in chosen)
    sources = defaultdict(list)
    for row in pq.read_table(data / "captions.parquet", columns=["source", "text"]).to_pylist():
        if row["text"]:
            sources[row["source"]].append(row["text"])
    for source, english in (("coco", True), ("laion-ko", False)):
        rows.extend((source, english, text) for text in rng.sample(sources[source], captions))
    return rows


def by_langdetect(texts: list[str]) -> list[bool]:
    """langdetect's arg-max is English."""
    langdetect.DetectorFactory.seed = 0
    answers = []
    for text in texts:
        try:
            answers.append(langdetect.detect_langs(text)[0].lang == "en")
        except langdetect.LangDetectException:
            answers.append(False)
    return answers


def ours(settings: LanguageSettings) -> Callable[[list[str]], list[bool]]:
    """The project's identifier with these settings."""
    identifier = LanguageIdentifier(settings)
    return lambda texts: keeps(identifier.identify(texts), settings)


def figures(rows: list[tuple[str, bool, str]], kept: list[bool]) -> str:
    """Accuracy, recall of English, share of the rest that is kept."""
    english = [keep for (_, is_english, _), keep in zip(rows, kept, strict=True) if is_english]
    rest = [keep for (_, is_english, _), keep in zip(rows, kept, strict=True) if not is_english]
    right = sum(english) + len(rest) - sum(rest)
    recall = f"{sum(english) / len(english):.3f}" if english else "  -  "
    wrong = f"{sum(rest) / len(rest):.3f}" if rest else "  -  "
    return f"accuracy {right / len(rows):.3f}  English kept {recall}  rest kept {wrong}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with languages.parquet and captions.parquet")
    parser.add_argument("--per-language", type=int, default=25)
    parser.add_argument("--captions", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = sample_texts(arguments.data, arguments.per_language, arguments.captions, arguments.seed)
    texts = [text for _, _, text in rows]
    langdetect.detect_langs("loads its profiles before the clock starts")
    english = ("en",)
    candidates = {
        "langdetect": by_langdetect,
        "ours": ours(LanguageSettings(languages=english)),
        "ours, langdetect where unsure": ours(LanguageSettings(languages=english, langdetect=True)),
    }
    answers: dict[str, list[bool]] = {}
    rates: dict[str, float] = {}
    for name, identify in candidates.items():
        start = time.process_time()
        answers[name] = identify(texts)
        rates[name] = len(texts) / (time.process_time() - start)
        print(f"{name:30s} {rates[name]:9.0f} texts/CPU s  {rates[name] / rates['langdetect']:6.1f} x")
    groups = {
        group: [i for i, row in enumerate(rows) if row[0] == group] for group in dict.fromkeys(r[0] for r in rows)
    }
    lengths = {
        f"{low}-{high - 1} characters": [i for i, row in enumerate(rows) if low <= len(row[2]) < high]
        for low, high in LENGTHS
    }
    for title, indices in {"all": list(range(len(rows))), **groups, **lengths}.items():
        print(f"\n{title} ({len(indices)} texts)")
        for name, kept in answers.items():
            print(f"  {name:30s} {figures([rows[i] for i in indices], [kept[i] for i in indices])}")


if __name__ == "__main__":
    main()
