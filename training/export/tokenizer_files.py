"""A tokenizer as the files that Hugging Face's CLIPTokenizer reads."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import OpenWITError
from openwit.training.tokenizer.bpe import WORD_END, ClipTokenizer, byte_letters, read_merges

START, END = "<|startoftext|>", "<|endoftext|>"
# The 48,894 lines of openai/CLIP's bpe_simple_vocab_16e6.txt that CLIP uses, joined by line feeds.
MERGES_BYTES = 524_604
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"


def write_tokenizer(tokenizer: ClipTokenizer, context_length: int, folder: Path) -> None:
    """vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into an existing folder.

    Raises:
        OpenWITError: see `clip_merges`.
    """
    text = tokenizer.merges if tokenizer.merges is not None else clip_merges()
    merges = read_merges(text, "the merges")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_json(folder / "vocab.json", vocabulary(merges))
    marks = {"bos_token": _mark(START), "eos_token": _mark(END), "unk_token": _mark(END)}
    _write_json(folder / "special_tokens_map.json", {**marks, "pad_token": END})
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": context_length,
            "do_lower_case": True,
            "errors": "replace",
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        },
    )


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Each piece's id: bytes within a word, bytes at its end, the merges in order, start and end of text."""
    letters = byte_letters()
    pieces = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {piece: number for number, piece in enumerate(pieces)}


def clip_merges() -> str:
    """CLIP's own merges as a file's text.

    They stand word for word within the compiled tokenizer, which has no function that would tell them; the sum says
    that they were found whole.

    Raises:
        OpenWITError: this release of the tokenizer holds them in another way.
    """
    found = importlib.util.find_spec("instant_clip_tokenizer")
    for place in found.submodule_search_locations or [] if found is not None else []:
        for path in sorted(Path(place).glob("instant_clip_tokenizer.*")):
            data = path.read_bytes()
            header = data.find(b"#version: 0.2\ni n\n")
            start = data.find(b"\n", header) + 1
            lines = data[start : start + MERGES_BYTES]
            if header >= 0 and hashlib.sha256(lines).hexdigest() == MERGES_SHA256:
                return "#version: 0.2\n" + lines.decode()
    raise OpenWITError(
        "the installed instant_clip_tokenizer does not hold CLIP's merges where they are looked for: install 0.1.1"
    )


def _mark(content: str) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
