"""A tiny SigLIP: its sizes, and a tokenizer.json of Hugging Face's kind, made with the library that reads it."""

import json
from pathlib import Path
from typing import Any

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SENTENCES = [f"a {colour} box at the {place} of a ground" for colour in COLOURS for place in ("top", "left", "bottom")]
TOWER = {"width": 32, "layers": 1, "heads": 2, "mlp_ratio": 2.5}
SPEC = {
    "embed_dim": 32,
    "gelu": "tanh",
    "norm_eps": 1e-6,
    "images": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize": "squash"},
    "vision": {
        **TOWER,
        "image_size": 32,
        "patch_size": 16,
        "pool": "attention",
        "pre_norm": False,
        "patch_bias": True,
        "projection": False,
    },
    "text": {
        **TOWER,
        "context_length": 16,
        "vocabulary": 100,
        "causal": False,
        "pool": "last",
        "pad": 1,
        "projection_bias": True,
    },
}


def write_tokenizer(folder: Path, *, template: bool = True, **config: Any) -> Path:
    """Write tokenizer.json, with 100 ids or fewer, and tokenizer_config.json; return the first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer: Any = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    stated = config or {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return folder / "tokenizer.json"
