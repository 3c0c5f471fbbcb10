import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.training.data.sample_texts import CorruptSampleError, lenient_json, texts_of

TEXT = b"a red dog on the beach"


@pytest.mark.parametrize(
    ("document", "texts", "repaired"),
    [
        (b'{"caption": "one", "texts": ["one", "two"]}', ("one", "two"), False),
        (b'{"caption": "one"}', ("one",), False),
        (b'{"caption": null}', (), False),
        (b'{"caption": ["a", "b", 3, null]}', ("a", "b", "3"), False),
        (b'{"caption": 7}', ("7",), False),
        (b'{"captions": ["a"]}', ("a",), False),
        (b'{"text": "a"}', ("a",), False),
        (b'["a", "b"]', ("a", "b"), False),
        (b'{"caption": "x", "similarity": NaN}', ("x",), True),
        (b'{"caption": "x", "width": -Infinity}', ("x",), True),
        (b'{"caption": "x \\ud83d"}', ("x",), True),
        (b'{"caption": "x \\ude00 y"}', ("x  y",), True),
        (b'\xef\xbb\xbf{"caption": "x"}', ("x",), True),
        (b'{"caption": "caf\xe9"}', ("caf",), True),
        (b"not json", (), True),
        (b"{" * 5000, (), True),
        (b'{"caption": "x", "n": ' + b"9" * 5000 + b"}", ("x",), False),
        (b'{"caption": " "}', (), False),
        (b"", (), False),
    ],
)
def test_texts_of_odd_json(document: bytes, texts: tuple[str, ...], repaired: bool) -> None:
    if texts:
        found, was = texts_of("k", document, b"")
        assert (tuple(text.replace("\ufffd", "") for text in found), was or not repaired) == (texts, True)
    else:
        with pytest.raises(CorruptSampleError, match="no text"):
            texts_of("k", document, b"")
    assert texts_of("k", document, TEXT)[0]


@given(document=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_good_text_never_depends_on_the_json(document: bytes) -> None:
    texts, _ = texts_of("k", document, TEXT)
    assert all(text.strip() for text in texts)


VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=8)


@given(st.dictionaries(st.text(), VALUES))
def test_what_python_writes_is_read_and_can_be_encoded(document: dict[str, object]) -> None:
    found, _ = lenient_json(json.dumps(document).encode())
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert len(found) <= len(document)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xef\xbb\xbf a dog\r\n", "a dog"),
        ("Café".encode("cp1252"), "Café"),
        ("a red dog".encode("utf-16"), "a red dog"),
    ],
)
def test_a_text_member_in_another_encoding(raw: bytes, text: str) -> None:
    assert texts_of("k", b"", raw) == ((text,), False)
