"""`wit-train tokenizer`: a byte-pair encoding of CLIP's kind, learned from the texts of a dataset's split."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest
from openwit.training.tokenizer.bpe import (
    SMALLEST_VOCABULARY,
    VOCABULARY_SIZE,
    WORD_END,
    WORDS,
    ClipTokenizer,
    byte_letters,
    cleaned,
)

ROWS = 8192


@dataclass(frozen=True)
class TokenizerJob:
    """What the command line asks for (see `openwit.training.cli.main.tokenizer`)."""

    dataset: Path
    split: str
    vocabulary: int
    out: Path

    def run(self, console: Console) -> ClipTokenizer:
        """Learns the merges and writes the file.

        Raises:
            OpenWITError: a vocabulary that cannot be, or no such split.
        """
        if not SMALLEST_VOCABULARY < self.vocabulary <= VOCABULARY_SIZE:
            raise OpenWITError(
                f"--vocabulary {self.vocabulary} must be more than {SMALLEST_VOCABULARY} (512 bytes, start and end of "
                f"text) and at most {VOCABULARY_SIZE:,}, which is what openai/CLIP and open_clip read of a file"
            )
        manifest = DatasetManifest.load(self.dataset)
        shards = manifest.shards_of(self.split)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("reading texts", total=sum(shard.samples for shard in shards))
            paths = [self.dataset / shard.metadata.path for shard in shards]
            texts = _texts(paths, lambda rows: progress.update(task, advance=rows))
            merges = learn_merges(texts, self.vocabulary - SMALLEST_VOCABULARY)
        origin = {"dataset": manifest.name, "split": self.split, "manifest": sha256_of(self.dataset / MANIFEST_NAME)}
        text = "\n".join([f"#version: 0.2 {json.dumps(origin)}", *(" ".join(pair) for pair in merges)]) + "\n"
        tokenizer = ClipTokenizer(text)
        atomic_write(self.out, text)
        console.print(self._summary(tokenizer, paths), markup=False, soft_wrap=True)
        return tokenizer

    def _summary(self, tokenizer: ClipTokenizer, paths: list[Path]) -> str:
        sample = [text for _, text in zip(range(1000), _texts(paths, lambda _: None), strict=False)]
        per_text = sum(len(tokenizer([text], 1 << 20)[0]) for text in sample) / max(1, len(sample))
        fewer = "" if tokenizer.vocabulary_size == self.vocabulary else " (the texts hold no more pairs that recur)"
        return (
            f"wrote {self.out}: a vocabulary of {tokenizer.vocabulary_size:,}{fewer}, {per_text:.1f} tokens a text "
            "with start and end; train with model.tokenizer set to it"
        )


def learn_merges(texts: Iterator[str], number: int) -> list[tuple[str, str]]:
    """The `number` merges that shorten the texts most, one after another; fewer where nothing recurs any more.

    Words and cleaning are openai/CLIP's. The same texts give the same merges.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    pieces = [*byte_letters(), *(letter + WORD_END for letter in byte_letters())]
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    trainer = trainers.BpeTrainer(
        # A piece that two merges make counts once here and is left out below, so some more are asked for.
        vocab_size=SMALLEST_VOCABULARY + number + number // 8,
        min_frequency=2,
        show_progress=False,
        # Named beforehand, as the library would number word-final letters in the order of a hash table that differs
        # from run to run, and settles ties by number.
        special_tokens=pieces,
        end_of_word_suffix=WORD_END,
    )
    learner.train_from_iterator((cleaned(text) for text in texts), trainer)
    known = set(pieces)
    merges: list[tuple[str, str]] = []
    for first, second in json.loads(learner.to_str())["model"]["merges"]:
        # CLIP's format gives every merge an id, so a piece can have only one way to be made.
        if first + second not in known:
            known.add(first + second)
            merges.append((first, second))
    return merges[:number]


def _texts(paths: list[Path], read: Callable[[int], object]) -> Iterator[str]:
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS, columns=["texts"]):
                    yield from (text for row in batch["texts"].to_pylist() for text in row)
                    read(batch.num_rows)
        except (OSError, ValueError) as error:
            raise OpenWITError(f"{path} cannot be read ({error}): run `wit verify`") from error
