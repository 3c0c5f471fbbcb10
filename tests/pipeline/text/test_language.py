import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.text.language import LanguageIdentifier, keeps
from openwit.pipeline.text.settings import LanguageSettings
from openwit.schemas.common.errors import OpenWITError

DATA = Path(__file__).parents[3].parent / "shared" / "data"

TEXTS = {
    "A brown dog runs over the wet grass": "en",
    "Ein brauner Hund läuft über das nasse Gras": "de",
    "Un chien brun court sur l'herbe mouillée": "fr",
    "Коричневая собака бежит по мокрой траве": "ru",
    "茶色の犬が濡れた草の上を走っています": "ja",
    "한 마리의 갈색 개가 풀밭을 달린다": "ko",
}


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier()


def test_identifies(identifier: LanguageIdentifier) -> None:
    answers = identifier.identify(list(TEXTS))
    assert [language for language, _ in answers] == list(TEXTS.values())
    assert all(0.5 < score <= 1 for _, score in answers)


def test_case_and_line_breaks_do_not_matter(identifier: LanguageIdentifier) -> None:
    plain, loud, broken = identifier.identify(
        ["a red car on a road", "A RED CAR ON A ROAD", "A red\ncar on\r\n a road"]
    )
    assert plain == loud == broken


def test_empty_and_odd_texts_have_low_confidence(identifier: LanguageIdentifier) -> None:
    settings = LanguageSettings(languages=("en",))
    assert keeps(identifier.identify(["", " \n", "12345", "!!!"]), settings) == [False] * 4


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text_gets_an_answer_that_depends_on_it_alone(texts: list[str]) -> None:
    identifier = _shared()
    answers = identifier.identify(texts)
    assert answers == [identifier.identify([text])[0] for text in texts]
    assert all(language and 0 <= score <= 1 for language, score in answers)


def test_lone_surrogates_do_not_raise(identifier: LanguageIdentifier) -> None:
    assert identifier.identify(["a red car \ud800 on a road"])[0][0] == "en"


def test_keeps_by_language_and_score() -> None:
    found = [("en", 0.9), ("en", 0.2), ("de", 0.9), ("fr", 0.3)]
    assert keeps(found, LanguageSettings(languages=("en", "fr"))) == [True, False, False, True]
    assert keeps(found, LanguageSettings(languages=("en",), min_score=0)) == [True, True, False, False]
    assert keeps(found, LanguageSettings()) == [True] * 4


def test_an_unknown_language_is_the_users_error() -> None:
    with pytest.raises(OpenWITError, match="unknown language 'EN'; did you mean 'en'"):
        LanguageIdentifier(LanguageSettings(languages=("EN",)))
    with pytest.raises(OpenWITError, match="ISO 639-1"):
        LanguageIdentifier(LanguageSettings(languages=("english language",)))


def test_langdetect_is_asked_only_about_unsure_wanted_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    import langdetect

    asked: list[str] = []
    real = langdetect.detect_langs

    def listen(text: str):  # type: ignore[no-untyped-def]
        asked.append(text)
        return real(text)

    monkeypatch.setattr(langdetect, "detect_langs", listen)
    settings = LanguageSettings(languages=("en",), langdetect=True, min_score=0.05, unsure=(0.05, 0.5))
    texts = [*TEXTS, "van", "gold ring", "pasta", "12 %"]
    first = [answer[0] for answer in LanguageIdentifier().identify(texts)]
    scores = [answer[1] for answer in LanguageIdentifier().identify(texts)]
    once = LanguageIdentifier(settings).identify(texts)
    unsure = [t for t, lang, s in zip(texts, first, scores, strict=True) if lang == "en" and 0.05 <= s < 0.5]
    assert asked == [text.lower() for text in unsure]
    assert unsure
    assert LanguageIdentifier(settings).identify(texts) == once  # langdetect alone would draw at random


def test_travels_to_workers(identifier: LanguageIdentifier) -> None:
    other = pickle.loads(pickle.dumps(identifier))
    assert other.identify(list(TEXTS)) == identifier.identify(list(TEXTS))


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_accuracy_on_real_texts(identifier: LanguageIdentifier) -> None:
    settings = LanguageSettings(languages=("en",))
    rows = pq.read_table(DATA / "languages.parquet").slice(0).to_pylist()[::7]
    sentences = [row for row in rows if row["kind"] == "sentences"]
    kept = keeps(identifier.identify([row["text"] for row in sentences]), settings)
    right = sum(keep == (row["lang"] == "en") for keep, row in zip(kept, sentences, strict=True))
    assert right / len(sentences) > 0.98
    captions = pq.read_table(DATA / "captions.parquet").to_pylist()
    coco = [row["text"] for row in captions if row["source"] == "coco"][::20]
    assert sum(keeps(identifier.identify(coco), settings)) / len(coco) > 0.99


_IDENTIFIERS: list[LanguageIdentifier] = []


def _shared() -> LanguageIdentifier:
    # hypothesis and function-scoped fixtures do not mix
    if not _IDENTIFIERS:
        _IDENTIFIERS.append(LanguageIdentifier())
    return _IDENTIFIERS[0]


def test_the_page_decides_where_a_text_leaves_doubt(identifier: LanguageIdentifier) -> None:
    english = "Stickers of animals and other things to print at home. Duck. Horse"
    german = "Bilder von Tieren und anderen Dingen zum Ausdrucken. Ente. Pferd"
    texts = ["Duck", "Duck", "Duck", "The quick brown fox jumps over the lazy dog every morning"]
    found = identifier.identify(texts, [english, german, None, german])
    assert found[0][0] == "en"
    assert found[0][1] > 0.5
    assert found[1][0] == "de"
    assert found[2] == identifier.identify(["Duck"])[0]
    assert found[3][0] == "en"  # a clear text is what it is, wherever it stands


def test_null_keeps_every_language() -> None:
    assert LanguageSettings.model_validate({"languages": None}) == LanguageSettings()
