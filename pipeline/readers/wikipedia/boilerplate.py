"""Recognise what nearly every article has and no article is about: headings of its apparatus, and identifiers."""

import re

_HEADINGS = """
external links|external link|see also|references|reference|notes|note|notes and references|references and notes|
further reading|bibliography|gallery|sources|source|citations|footnotes|works cited|literature|explanatory notes|
general references|general sources|cited sources|cited works|in-line citations|image gallery|links|
weblinks|einzelnachweise|siehe auch|literatur|anmerkungen|quellen|galerie|belege|fußnoten|
voir aussi|notes et références|références|liens externes|articles connexes|bibliographie|notes|lien externe|
enlaces externos|véase también|referencias|bibliografía|notas|fuentes|galería|notas y referencias|
collegamenti esterni|voci correlate|note|bibliografia|altri progetti|galleria d'immagini|
ligações externas|ver também|referências|notas e referências|galeria|fontes|
externe links|externe link|zie ook|bronnen, noten en/of referenties|literatuur|bronnen|noten|
linki zewnętrzne|zobacz też|przypisy|uwagi|źródła|
externa länkar|se även|referenser|källor|noter|litteratur|
eksterne lenker|eksterne henvisninger|se også|referanser|referencer|kilder|kildehenvisninger|
aiheesta muualla|katso myös|lähteet|viitteet|kirjallisuutta|
externí odkazy|související články|literatura|odkazy|poznámky|
külső hivatkozások|lásd még|jegyzetek|források|irodalom|
legături externe|vezi și|referințe|bibliografie|
dış bağlantılar|kaynakça|ayrıca bakınız|notlar|
pranala luar|referensi|lihat pula|liên kết ngoài|xem thêm|tham khảo|chú thích|
ссылки|примечания|см. также|литература|источники|галерея|посилання|примітки|див. також|джерела|література|
външни препратки|източници|спољашње везе|види још|извори|референце|
εξωτερικοί σύνδεσμοι|παραπομπές|δείτε επίσης|πηγές|
קישורים חיצוניים|ראו גם|הערות שוליים|לקריאה נוספת|
روابط خارجية|مراجع|المراجع|وصلات خارجية|انظر أيضا|انظر أيضًا|پیوند به بیرون|منابع|جستارهای وابسته|
बाहरी कड़ियाँ|सन्दर्भ|इन्हें भी देखें|แหล่งข้อมูลอื่น|อ้างอิง|ดูเพิ่ม|
関連項目|外部リンク|脚注|注釈|出典|参考文献|ギャラリー|外部链接|外部連結|参见|參見|参考资料|參考資料|注释|註釋|参考文献|參考文獻|
같이 보기|외부 링크|각주|참고 문헌|출처
"""
_BOILERPLATE = frozenset(" ".join(name.split()) for name in _HEADINGS.casefold().split("|"))

_NUMBER = r"[\s:#=]{0,3}+"
_DOI = r"10\.[0-9]{4,9}/[^\s\[\]|<>\"]{1,200}+"
_AFTER_NAME = {
    "ISBN": rf"(?:[-–\s]?1[03]\b)?{_NUMBER}[0-9][0-9 \-–‐]{{5,30}}+[Xx]?",
    "ISSN": rf"{_NUMBER}[0-9]{{4}}[\s\-–‐]?[0-9]{{3}}[0-9Xx]",
    "OCLC": rf"{_NUMBER}[0-9]{{1,14}}+",
    "LCCN": rf"{_NUMBER}[a-z]{{0,3}}[0-9][0-9-]{{1,14}}+",
    "PMID": rf"{_NUMBER}[0-9]{{1,12}}+",
    "PMC": rf"{_NUMBER}[0-9]{{3,12}}+",
    "JSTOR": rf"{_NUMBER}[0-9]{{3,14}}+",
    "S2CID": rf"{_NUMBER}[0-9]{{1,14}}+",
    "ASIN": rf"{_NUMBER}[A-Z0-9]{{10}}\b",
    "arXiv": rf"{_NUMBER}[a-z.-]{{0,20}}/?[0-9][0-9.v]{{3,12}}+",
    "Bibcode": rf"{_NUMBER}[0-9]{{4}}[A-Za-z0-9.&]{{10,15}}+",
    "RFC": r"\s?[0-9]{1,5}\b",
    "doi": rf"{_NUMBER}{_DOI}",
    "DOI": rf"{_NUMBER}{_DOI}",
    "10.": _DOI.removeprefix(r"10\."),
}
# The name first: a pattern that begins with a literal is searched for several times as fast as one that does not.
_IDENTIFIERS = {
    name: re.compile(rf"{re.escape(name)}(?<![^\W_]{re.escape(name)}){number}") for name, number in _AFTER_NAME.items()
}


def is_boilerplate(heading: str) -> bool:
    """Return whether a heading is one that nearly every article has, in the languages of the large Wikipedias."""
    return " ".join(heading.strip(" :'").casefold().split()) in _BOILERPLATE


def without_identifiers(text: str, cut: str) -> str:
    """Return a text with `cut` in place of each ISBN, ISSN, DOI and number of a catalogue, with its name."""
    for mark, pattern in _IDENTIFIERS.items():
        if mark in text:
            text = pattern.sub(cut, text)
    return text
