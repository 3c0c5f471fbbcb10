import numpy as np
import pytest
import torch

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation import retrieval as module
from openwit.training.evaluation.image_retrieval import image_ranks, image_retrieval


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24])
def test_ranks_are_those_of_the_stated_rule(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", chunk)
    images = torch.randint(-1, 2, (30, 3), generator=torch.Generator().manual_seed(2)).float()
    groups = np.random.default_rng(0).integers(0, 12, 30)
    scores = (images @ images.T).numpy()
    found = image_ranks(images, groups)
    for query in range(30):
        own = [n for n in range(30) if n != query and groups[n] == groups[query]]
        if not own:
            assert found[query] == -1
            continue
        best = max(scores[query, n] for n in own)
        assert found[query] == sum(scores[query, n] >= best for n in range(30) if groups[n] != groups[query])


def test_pairs_that_are_near_are_found_and_lone_images_only_distract() -> None:
    images = torch.nn.functional.normalize(torch.randn(21, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    images[1:20:2] = images[0:20:2]
    result = image_retrieval(images, np.array([n // 2 for n in range(21)]))
    assert (result.images, result.queries, result.groups) == (21, 20, 10)
    assert [recall.value for recall in result.recalls] == [1.0, 1.0, 1.0]
    assert result.recalls[0].chance == pytest.approx(1 / 20)
    same = image_retrieval(torch.ones(6, 2), np.array([0, 0, 0, 1, 1, 1]))
    assert [recall.value for recall in same.recalls] == [0.0, 1.0, 1.0]  # equal scores: the three wrong ones first
    with pytest.raises(DataError, match="no group has two"):
        image_retrieval(images[:3], np.array([0, 1, 2]))
