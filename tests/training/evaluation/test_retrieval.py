import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from openwit.training.evaluation import retrieval as module
from openwit.training.evaluation.embed import EmbeddedSplit
from openwit.training.evaluation.retrieval import rank, retrieval
from openwit.training.evaluation.retrieval_report import clip_benchmark_names


def split_of(images: torch.Tensor, texts: torch.Tensor, entries: list[tuple[int, int]]) -> EmbeddedSplit:
    joined = np.array(entries)
    return EmbeddedSplit(
        images, texts, joined[:, 0], joined[:, 1], np.arange(len(images)), [f"t{n}" for n in range(len(texts))], []
    )


def brute_force(split: EmbeddedSplit) -> dict[str, list[int]]:
    """The rules of the module, written as loops over (image, text) entries."""
    scores = (split.images @ split.texts.T).numpy()
    entries = list(zip(split.entry_image.tolist(), split.entry_text.tolist(), strict=True))
    own = {image: {t for i, t in entries if i == image} for image in range(len(split.images))}
    carriers = {text: {i for i, t in entries if t == text} for text in range(len(split.texts))}
    everyone = range(len(split.images))
    answer: dict[str, list[int]] = {name: [] for name in ("t2i strict", "t2i shared", "i2t strict", "i2t shared")}
    for image, text in entries:
        answer["t2i strict"].append(sum(scores[j, text] >= scores[image, text] for j in everyone if j != image))
        best = max(scores[j, text] for j in carriers[text])
        answer["t2i shared"].append(sum(scores[j, text] >= best for j in everyone if j not in carriers[text]))
    for image in everyone:
        best = max(scores[image, t] for t in own[image])
        answer["i2t strict"].append(sum(scores[image, t] >= best for i, t in entries if i != image))
        answer["i2t shared"].append(sum(scores[image, t] >= best for i, t in entries if t not in own[image]))
    return answer


@st.composite
def splits(draw: st.DrawFn) -> EmbeddedSplit:
    images, texts = draw(st.integers(2, 7)), draw(st.integers(1, 6))
    entries = {(image, draw(st.integers(0, texts - 1))) for image in range(images)}
    entries |= {(draw(st.integers(0, images - 1)), text) for text in range(texts)}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    # Few distinct values, so that equal scores are common.
    coarse = torch.randint(-1, 2, (images + texts, 3), generator=generator).float()
    order = draw(st.permutations(sorted(entries)))
    return split_of(coarse[:images], coarse[images:], list(order))


@settings(max_examples=150, deadline=None)
@given(splits(), st.sampled_from([1, 7, 1 << 24]))
def test_ranks_are_those_of_the_stated_rules(split: EmbeddedSplit, chunk: int) -> None:
    before = module._CHUNK_ELEMENTS
    module._CHUNK_ELEMENTS = chunk
    try:
        found = rank(split)
    finally:
        module._CHUNK_ELEMENTS = before
    expected = brute_force(split)
    assert found.text_to_image["strict"].tolist() == expected["t2i strict"]
    assert found.text_to_image["shared"].tolist() == expected["t2i shared"]
    assert found.image_to_text["strict"].tolist() == expected["i2t strict"]
    assert found.image_to_text["shared"].tolist() == expected["i2t shared"]


@settings(max_examples=50, deadline=None)
@given(splits())
def test_figures_are_consistent(split: EmbeddedSplit) -> None:
    result = retrieval(split)
    for rules in result.recalls.values():
        for strict, shared in zip(rules["strict"], rules["shared"], strict=True):
            assert shared.value >= strict.value
            assert shared.chance >= strict.chance - 1e-12
        for recalls in rules.values():
            values = [recall.value for recall in recalls]
            assert values == sorted(values)
            assert all(0 <= r.low <= r.high <= 1 and 0 < r.chance <= 1 + 1e-12 for r in recalls)


def test_perfect_embeddings_find_everything() -> None:
    split = split_of(torch.eye(20), torch.eye(20), [(n, n) for n in range(20)])
    result = retrieval(split)
    assert result.at("text_to_image", "strict", 1).value == result.at("image_to_text", "strict", 1).value == 1
    assert result.at("text_to_image", "strict", 5).chance == pytest.approx(5 / 20)


def test_a_collapsed_model_scores_nothing() -> None:
    split = split_of(torch.ones(30, 4), torch.ones(30, 4), [(n, n) for n in range(30)])
    result = retrieval(split)
    assert result.at("text_to_image", "strict", 10).value == result.at("image_to_text", "strict", 10).value == 0


def test_a_random_model_scores_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(400, 64, generator=generator), dim=1)
    texts = F.normalize(torch.randn(2000, 64, generator=generator), dim=1)
    result = retrieval(split_of(images, texts, [(n // 5, n) for n in range(2000)]))
    for direction in ("text_to_image", "image_to_text"):
        recall = result.at(direction, "strict", 10)
        assert recall.value == pytest.approx(recall.chance, rel=0.35)


def test_a_caption_shared_by_two_images() -> None:
    # Both images look alike and carry the same words; only the strict rule asks which of the two was meant.
    split = split_of(torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1]]), torch.eye(2), [(0, 0), (1, 0), (2, 1)])
    result = retrieval(split)
    assert result.at("text_to_image", "strict", 1).value == pytest.approx(2 / 3)
    assert result.at("text_to_image", "shared", 1).value == 1
    assert result.at("image_to_text", "strict", 1).value == pytest.approx(1 / 3)
    assert result.at("image_to_text", "shared", 1).value == 1


def recall_as_in_clip_benchmark(scores: torch.Tensor, positive: torch.Tensor, k: int) -> float:
    """CLIP_benchmark's definition of recall for retrieval: the share of queries with a positive among the first k."""
    first = torch.topk(scores, k, dim=1).indices
    return float((positive.gather(1, first).sum(dim=1) > 0).float().mean())


def test_recalls_are_those_of_clip_benchmark_on_the_same_embeddings() -> None:
    generator = torch.Generator().manual_seed(5)
    images = F.normalize(torch.randn(40, 16, generator=generator), dim=1)
    own = np.repeat(np.arange(40), 5)
    words = F.normalize(images[own] + 0.9 * torch.randn(200, 16, generator=generator), dim=1)
    # An image may have the same caption twice, which is asked for twice.
    words[1] = words[0]
    distinct = [n for n in range(200) if n != 1]
    number = {n: at for at, n in enumerate(distinct)} | {1: 0}
    split = split_of(images, words[distinct], [(int(own[n]), number[n]) for n in range(200)])
    scores = words @ images.T
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(200), torch.from_numpy(own)] = True
    found = clip_benchmark_names(retrieval(split))
    for k in (1, 5, 10):
        assert found[f"image_retrieval_recall@{k}"] == pytest.approx(recall_as_in_clip_benchmark(scores, positive, k))
        assert found[f"text_retrieval_recall@{k}"] == pytest.approx(
            recall_as_in_clip_benchmark(scores.T, positive.T, k)
        )
    assert 0 < found["image_retrieval_recall@1"] < found["image_retrieval_recall@10"] < 1
