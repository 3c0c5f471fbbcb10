"""Score decoded text by the letters of a language: pairs of letters for alphabets, frequent characters for CJK."""

import functools
import importlib.util
import itertools
import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from openwit.schemas.common.parts import MissingPartError

Pairs = Mapping[tuple[str, str], int]

_LATIN_OF_OTHERS = -3.0  # a Latin letter in a text of another script
_UNSEEN = math.log(1e-7)
_PUNCTUATION = frozenset("«»„“”‘’–—…·•°§©®™\u00a0€£¿¡،؛؟״׳")
_PUNCTUATION_COST = -6.0
_SYMBOL_COST = -11.0
_BAD_COST = -16.0
_MIXED_COST = -14.0  # letters of two scripts side by side
_LETTER_COST = -11.5  # a letter that the language does not use
_CASE_COST = -5.0
_SMOOTHING = 0.002
_MARKS = ("Mn", "Mc")  # accents and vowel signs, which are parts of words


class LetterModel:
    """Pairs of letters of one language, from the profiles that langdetect carries (Wikipedia's texts, Apache 2.0)."""

    def __init__(self, language: str) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        singles: Counter[str] = Counter()
        for gram, n in _profile(language).items():
            low = gram.lower()
            if len(low) == 2:
                counts[low[0], low[1]] += n
            elif len(low) == 1:
                singles[low] += n
        before: dict[str, int] = defaultdict(int)
        for (first, _), n in counts.items():
            before[first] += n
        total = sum(singles.values())
        latin = sum(n for letter, n in singles.items() if letter.isascii())
        self.is_latin = latin * 2 > total
        self._letters = {letter: math.log(n / total) for letter, n in singles.items()}
        self._pairs = {pair: math.log(n / before[pair[0]]) for pair, n in counts.items()}
        self._floor = math.log(_SMOOTHING)
        self._seen: dict[tuple[str, str], float] = {}

    def score(self, pairs: Pairs) -> float:
        """Return the logarithm of the probability of a text, given as its pairs of characters."""
        seen = self._seen
        total = 0.0
        for pair, n in pairs.items():
            value = seen.get(pair)
            if value is None:
                value = seen[pair] = self._cost(pair)
            total += n * value
        return total

    def _cost(self, pair: tuple[str, str]) -> float:
        first, second = (letter.lower() for letter in pair)
        if not pair[0].isalpha() and unicodedata.category(pair[0]) not in _MARKS:
            first = " "  # after a sign, as after a blank, a word begins
        if second == " ":
            return max(self._pairs.get((first, second), _UNSEEN / 2), _UNSEEN / 2) if first != " " else 0.0
        if not second.isalpha():
            return symbol_cost(pair[1], between_letters=first.isalpha())
        case = _CASE_COST if pair[0].islower() and pair[1].isupper() else 0.0
        if not self.is_latin and second.isascii():
            return case + (_LATIN_OF_OTHERS if first.isascii() else _MIXED_COST)
        exact = self._pairs.get((first, second))
        if exact is not None:
            return case + exact
        # after a foreign letter, as in "naïve", nothing is known of the next one
        floor = -1.0 if self.is_latin and first.isalpha() and first not in self._letters else self._floor
        return case + max(floor + self._letters.get(second, _UNSEEN), _LETTER_COST)


def symbol_cost(character: str, *, between_letters: bool) -> float:
    """Return the logarithm of the probability of a character that is no letter."""
    if character == "¤":
        return _MIXED_COST  # in no text: the euro sign of ISO 8859-15 in another encoding
    if character in _PUNCTUATION:
        return _PUNCTUATION_COST
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn", "Co"):
        return _BAD_COST
    if unicodedata.category(character) in _MARKS:
        return _PUNCTUATION_COST
    return _SYMBOL_COST + (-2.0 if between_letters else 0.0)


@functools.cache
def letter_model(language: str) -> LetterModel:
    """Return the model of a language (langdetect's code); loaded once."""
    return LetterModel(language)


# langdetect has no profile of Icelandic: the Universal Declaration of Human Rights, articles 1 to 5, on top of the
# pairs of Norwegian.
_ICELANDIC = (
    "hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum menn eru gæddir vitsmunum og samvisku og "
    "ber þeim að breyta bróðurlega hverjum við annan hver maður skal eiga kröfu á réttindum þeim og því "
    "frjálsræði sem fólgin eru í yfirlýsingu þessari og skal þar engan greinarmun gera vegna kynþáttar "
    "litarháttar kynferðis tungu trúar stjórnmálaskoðana eða annarra skoðana þjóðernis uppruna eigna ætternis eða "
    "annarra aðstæðna allir menn eiga rétt til lífs frelsis og mannhelgi engan mann skal hneppa í þrældóm né "
    "nauðungarvinnu þrælahald og þrælaverslun hverju nafni sem nefnist skulu bönnuð enginn maður skal sæta "
    "pyndingum grimmilegri ómannlegri eða vanvirðandi meðferð eða refsingu"
)
_ICELANDIC_WEIGHT = 4  # of a pair of the text, against a base of a thousand letters


def _icelandic() -> dict[str, int]:
    base = _profile("no")
    letters = sum(n for gram, n in base.items() if len(gram) == 1)
    found = Counter({gram: n * 1000 // letters for gram, n in base.items()})
    for first, second in itertools.pairwise(f" {_ICELANDIC} "):
        found[first + second] += _ICELANDIC_WEIGHT
        if second != " ":
            found[second] += _ICELANDIC_WEIGHT
    return {gram: n for gram, n in found.items() if n and gram != " "}


def _profile(language: str) -> dict[str, int]:
    if language == "is":
        return _icelandic()
    spec = importlib.util.find_spec("langdetect")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "profiles" / language
        if path.exists():
            found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["freq"]
            return found
    raise MissingPartError(f"the profile of language {language!r} is missing: install openwit[build], which has it")


# The most frequent characters of running text.
_FREQUENT = {
    "zh": frozenset(
        "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
        "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点"
        "正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿"
        "原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德"
        "资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交"
        "规万取拉格望觉术领共确传师观清今切院让识候带导争运笔片站网页图联系我们首版权所有新闻公司产品服务"
    ),
    "tw": frozenset(
        "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
        "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點"
        "正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒"
        "原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德"
        "資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交"
        "規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運筆片站網頁圖聯首版台灣香港"
    ),
    "ja": frozenset(
        "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食車"
        "何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公持野以思家世多正安院心界"
        "教文元重近考画海売知道集別物使品計死特私始朝運終台広住真有口少町料工建空急止送切転研足究楽起着店病質待試族銀早映親験英医仕去味写"
        "字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服夕借曜飲肉貸堂鳥飯勉冬昼茶弟牛魚兄犬妹姉漢最的全部関性成対定法表"
    ),
    "ko": frozenset(
        "이다는의에을가고로한하지도를은사아기자인해있나리서대스어시게그정일수부라원제들보전구만장상마우유과여오주야와안화소무공것으세비성산"
        "신연생동니경드국위말트관모방문선요미전두면현까러려회학조분알습년명없내입될되된같할때중물집당당재용적간터음실진행름았었했며더치개람못"
    ),
}
_CJK_KINDS = {
    # kind: (frequent, first level, other ideograph), by language
    "zh": (-5.3, -8.0, -11.5),
    "tw": (-5.3, -8.0, -11.5),
    "ja": (-6.0, -8.3, -11.5),
    "ko": (-4.6, -7.0, -12.0),
}
_LEVELS = {"zh": ("gb2312", 0xD7), "tw": ("big5", 0xC6), "ja": ("euc_jp", 0xCF), "ko": ("euc_kr", 0xC8)}


def cjk_score(pairs: Pairs, language: str) -> float:
    """Return the logarithm of the probability of a text in `zh`, `tw`, `ja` or `ko`, given as its pairs."""
    return sum(n * _cjk_cost(pair, language) for pair, n in pairs.items())


@functools.lru_cache(maxsize=1 << 16)
def _cjk_cost(pair: tuple[str, str], language: str) -> float:
    first, second = pair
    if second.isascii():
        after_latin = first.isascii() and first.isalpha()
        return _LATIN_OF_OTHERS if second.isalpha() or after_latin else 0.0
    beside_latin = -3.0 if first.isascii() and first.isalpha() else 0.0
    frequent, level, rare = _CJK_KINDS[language]
    if language != "ko" and "\u3040" <= second <= "\u309f":
        return beside_latin + (-3.4 if language == "ja" else -11.0)
    if language != "ko" and "\u30a0" <= second <= "\u30ff":
        return beside_latin + (-4.6 if language == "ja" else -11.0)
    if "\u3000" <= second <= "\u301f" or "\uff01" <= second <= "\uff5e":
        return -5.0
    if "\uac00" <= second <= "\ud7a3" and language != "ko":
        return _BAD_COST
    if second in _FREQUENT[language]:
        return beside_latin + frequent
    if "\uff61" <= second <= "\uff9f":
        return _SYMBOL_COST
    codec, last = _LEVELS[language]
    lead = (second.encode(codec, "ignore") or b"\xff")[0]
    if second.isalpha() and 0xA4 <= lead <= last:
        hanja = language == "ko" and not "\uac00" <= second <= "\ud7a3"
        return beside_latin + (rare if hanja else level)
    if second.isalpha():
        return beside_latin + rare - (2.0 if lead == 0xFF else 0.0)
    return symbol_cost(second, between_letters=first.isalpha())
