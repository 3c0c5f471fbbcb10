"""Write a tokenizer as the files that Hugging Face's CLIPTokenizer reads."""

import json
from pathlib import Path
from typing import Any

from openwit.training.tokenizer.bpe import END, START, ClipTokenizer, clip_merges, read_merges, vocabulary


def write_tokenizer(tokenizer: ClipTokenizer, context_length: int, folder: Path) -> None:
    """Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into an existing folder."""
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


def _mark(content: str) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
