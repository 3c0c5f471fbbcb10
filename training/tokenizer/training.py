"""Learn a byte-pair encoding of CLIP's kind from the texts of a dataset's split."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import MANIFEST_NAME, DatasetManifest, check_sum
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
class LearnedTokenizer:
    """A tokenizer that was learned.

    Attributes:
        tokenizer: the tokenizer.
        tokens_per_text: mean over the first 1,000 texts, start and end of text included.
    """

    tokenizer: ClipTokenizer
    tokens_per_text: float


def learn_tokenizer(
    dataset: Path, *, split: str, vocabulary: int, out: Path, progress: Callable[[int, int], None] | None = None
) -> LearnedTokenizer:
    """Learn the merges from the texts of a split and write them to a file.

    Args:
        dataset: dataset folder.
        split: whose texts are read.
        vocabulary: number of ids, at most 49,408.
        out: merges file to write.
        progress: receives (samples read, samples in all).

    Raises:
        RecipeError: `vocabulary` is out of range.
        DataError: there is no such split, or a table cannot be read.
    """
    if not SMALLEST_VOCABULARY < vocabulary <= VOCABULARY_SIZE:
        raise RecipeError(
            f"vocabulary {vocabulary} must be more than {SMALLEST_VOCABULARY} (512 bytes, start and end of text) and "
            f"at most {VOCABULARY_SIZE:,}, which is what openai/CLIP and open_clip read of a file"
        )
    manifest = DatasetManifest.load(dataset)
    shards = manifest.shards_of(split)
    total, done = sum(shard.samples for shard in shards), 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    paths = [check_sum(dataset, shard.metadata) for shard in shards]
    merges = learn_merges(_texts(paths, count), vocabulary - SMALLEST_VOCABULARY)
    origin = {"dataset": manifest.name, "split": split, "manifest": sha256_of(dataset / MANIFEST_NAME)}
    text = "\n".join([f"#version: 0.2 {json.dumps(origin)}", *(" ".join(pair) for pair in merges)]) + "\n"
    tokenizer = ClipTokenizer(text)
    atomic_write(out, text)
    sample = [text for _, text in zip(range(1000), _texts(paths, lambda _: None), strict=False)]
    tokens = sum(len(tokenizer([text], 1 << 20)[0]) for text in sample)
    return LearnedTokenizer(tokenizer, tokens / max(1, len(sample)))


def learn_merges(texts: Iterator[str], number: int) -> list[tuple[str, str]]:
    """Return the `number` merges that shorten the texts most, chosen one by one; fewer if no pair recurs any more.

    Words and cleaning are openai/CLIP's. The same texts give the same merges.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    pieces = [*byte_letters(), *(letter + WORD_END for letter in byte_letters())]
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    trainer = trainers.BpeTrainer(
        # A piece that two merges make counts once here and is dropped below, so some more are requested.
        vocab_size=SMALLEST_VOCABULARY + number + number // 8,
        min_frequency=2,
        show_progress=False,
        # Listed beforehand, as the library would number word-final letters in the order of a hash table that differs
        # from run to run, and breaks ties by number.
        special_tokens=pieces,
        end_of_word_suffix=WORD_END,
    )
    learner.train_from_iterator((cleaned(text) for text in texts), trainer)
    known = set(pieces)
    merges: list[tuple[str, str]] = []
    for first, second in json.loads(learner.to_str())["model"]["merges"]:
        # CLIP's format gives every merge an id, so a piece can be made in only one way.
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
            raise DataError(f"{path} cannot be read ({error}): run `wit verify`") from error
