"""Write a tokenizer as the files that Hugging Face's tokenizers read."""

import base64
import json
from pathlib import Path
from typing import Any

from openwit.training.tokenizer.bpe import END, START, clip_merges, read_merges, vocabulary
from openwit.training.tokenizer.file_tokenizer import CONFIG, PIECES, FileTokenizer
from openwit.training.tokenizer.read import AnyTokenizer
from openwit.training.tokenizer.vocabulary import Cleaning

_PUNCTUATION = r"[!-/:-@\[-`{-~]"


def write_tokenizer(tokenizer: AnyTokenizer, context_length: int, folder: Path, *, pad: int = 0) -> None:
    """Write a tokenizer into an existing folder.

    CLIP's kind: vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json. A tokenizer.json with the
    cleaning in it (but for the repair of mis-decoded text), or a sentencepiece model, and tokenizer_config.json.

    Args:
        tokenizer: of the model.
        context_length: tokens of the longest text.
        folder: to write into.
        pad: id with which the model fills texts up, where the tokenizer states none.
    """
    if isinstance(tokenizer, FileTokenizer):
        _write_file(tokenizer, context_length, folder, pad if tokenizer.pad is None else tokenizer.pad)
        return
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


def _write_file(tokenizer: FileTokenizer, context_length: int, folder: Path, pad: int) -> None:
    stored = tokenizer.stored
    usual = {"model_max_length": context_length, "padding_side": "right", "model_input_names": ["input_ids"]}
    if stored["kind"] == PIECES:
        (folder / "spiece.model").write_bytes(base64.b64decode(stored["content"]))
        names = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "do_lower_case": True}
        _write_json(folder / CONFIG, {"tokenizer_class": "SiglipTokenizer", **names, **usual})
        return
    from tokenizers import Tokenizer

    encoder: Any = Tokenizer.from_str(stored["content"])
    encoder.no_truncation()
    encoder.no_padding()
    _put_cleaning(encoder, stored["clean"])
    _put_marks(encoder, stored["starts"], stored["ends"])
    (folder / "tokenizer.json").write_text(encoder.to_str(), encoding="utf-8")
    names = {"eos_token": encoder.id_to_token(tokenizer.end_of_text), "pad_token": encoder.id_to_token(pad)}
    _write_json(folder / CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast", **names, **usual})


def _put_cleaning(encoder: Any, clean: Cleaning) -> None:
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if clean == "canonicalize":
        steps += [normalizers.Replace("_", " "), normalizers.Replace(Regex(_PUNCTUATION), "")]
    if clean != "whitespace":
        steps.append(normalizers.Lowercase())
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    encoder.normalizer = normalizers.Sequence(steps + ([encoder.normalizer] if encoder.normalizer else []))


def _put_marks(encoder: Any, starts: list[int], ends: list[int]) -> None:
    from tokenizers import processors

    names = {number: encoder.id_to_token(number) for number in (*starts, *ends)}
    single = " ".join([*(names[number] for number in starts), "$A", *(names[number] for number in ends)])
    template = processors.TemplateProcessing(single=single, special_tokens=[(name, n) for n, name in names.items()])
    encoder.post_processor = template


def _mark(content: str) -> dict[str, Any]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
