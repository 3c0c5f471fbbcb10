"""CoCa's objective against a restatement in float64, and the properties of its model."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.open_clip import imported
from torch import Tensor
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ModelSettings, objective_settings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.engine.gradcache import backward
from openwit.training.engine.runtime import make_autocast
from openwit.training.models.contrastive_captioner import ContrastiveCaptioner
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.registry import make_model, make_objective

CPU = torch.device("cpu")


def pair_of(made: SimpleNamespace, **settings: Any) -> tuple[Any, ContrastiveCaptioner]:
    torch.manual_seed(0)
    chosen = objective_settings("contrastive_captioning", **settings)
    model: Any = make_model(made.MODEL, chosen)
    return make_objective(chosen), model


# The restatement: sample by sample, head by head, from the paper and the names of the tensors alone.


def norm(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attend(p: dict[str, Tensor], name: str, asking: Tensor, memory: Tensor, causal: bool = False) -> Tensor:
    maps, shifts = p[f"{name}.in_proj_weight"].chunk(3), p[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ m.T + b for x, m, b in zip((asking, memory, memory), maps, shifts, strict=True))
    heads = []
    for one, other, value in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True):
        scores = one @ other.T / one.shape[-1] ** 0.5
        if causal:
            scores = scores + torch.full_like(scores, -torch.inf).triu(1)
        heads.append(scores.softmax(-1) @ value)
    return linear(p, f"{name}.out_proj", torch.cat(heads, -1))


def mlp(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    hidden = linear(p, f"{name}.c_fc", x)
    return linear(p, f"{name}.c_proj", hidden * (1 + torch.erf(hidden / 2**0.5)) / 2)


def blocks(p: dict[str, Tensor], name: str, x: Tensor, *, causal: bool, memory: Tensor | None = None) -> Tensor:
    for place in (f"{name}.transformer.resblocks.{number}" for number in range(2)):
        seen = norm(p, f"{place}.ln_1", x)
        x = x + attend(p, f"{place}.attn", seen, seen, causal)
        if memory is not None:
            x = x + attend(p, f"{place}.cross", norm(p, f"{place}.ln_cross", x), memory)
        x = x + mlp(p, f"{place}.mlp", norm(p, f"{place}.ln_2", x))
    return x


def restated(p: dict[str, Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The contrastive and the captioning loss."""
    images, texts, entropies = [], [], []
    for image, row in zip(inputs.images, inputs.tokens.tolist(), strict=True):
        text = torch.tensor(row[: row.index(max(row)) + 1])
        patches = F.conv2d(image[None], p["visual.conv1.weight"], stride=8)[0].flatten(1).T
        x = norm(p, "visual.ln_pre", patches + p["visual.positional_embedding"])
        patches = norm(p, "visual.ln_post", blocks(p, "visual", x, causal=False))
        pooled = attend(p, "visual.attn_pool", p["visual.attn_pool.probe"][None], patches)
        pooled = pooled + mlp(p, "visual.attn_pool.mlp", norm(p, "visual.attn_pool.ln", pooled))
        images.append((pooled @ p["visual.proj"])[0])
        words = p["text.token_embedding.weight"][text] + p["text.positional_embedding"][: len(text)]
        words = blocks(p, "text", torch.cat([words, p["text.cls_embedding"][None]]), causal=True)
        texts.append(norm(p, "text.ln_final", words[-1]) @ p["text.text_projection"])
        tokens = norm(p, "decoder.pool.ln", attend(p, "decoder.pool.attn", p["decoder.pool.queries"], patches))
        known = norm(p, "decoder.ln_final", blocks(p, "decoder", words[:-2], causal=True, memory=tokens))
        chances = (known @ p["decoder.to_vocabulary.weight"].T).softmax(-1)
        entropies += [-chances[place, text[place + 1]].log() for place in range(len(text) - 1)]
    left, right = (torch.stack(rows) for rows in (images, texts))
    left, right = left / left.norm(dim=1, keepdim=True), right / right.norm(dim=1, keepdim=True)
    logits = p["logit_scale"].exp() * left @ right.T
    own = [logits.softmax(axis).diagonal().log().mean() for axis in (0, 1)]
    return -(own[0] + own[1]) / 2, torch.stack(entropies).mean()


@pytest.mark.parametrize("weights", [{}, {"contrastive_weight": 0.5, "captioning_weight": 3.0, "image_tokens": 3}])
def test_losses_and_gradients_are_those_of_a_restatement_in_float64(made: SimpleNamespace, weights: Any) -> None:
    objective, model = pair_of(made, **weights)
    inputs = made.sample_inputs(6)
    loss = objective.loss(model, objective.embed(model, inputs), inputs, None)
    found = torch.autograd.grad(loss.value, list(model.parameters()))
    double = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
    contrastive, captioning = restated(double, Inputs(inputs.images.double(), inputs.tokens))
    value = weights.get("contrastive_weight", 1) * contrastive + weights.get("captioning_weight", 2) * captioning
    expected = torch.autograd.grad(value, list(double.values()))
    assert float(loss.metrics["contrastive_loss"]) == pytest.approx(contrastive.item(), rel=1e-5)
    assert float(loss.metrics["captioning_loss"]) == pytest.approx(captioning.item(), rel=1e-5)
    assert loss.value.item() == pytest.approx(value.item(), rel=1e-5)
    for name, one, other in zip(double, found, expected, strict=True):
        assert (one.double() - other).norm() < 2e-5 * other.norm(), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_of_other_lengths_give_both_losses_of_the_batch(
    made: SimpleNamespace, chunk: int, precision: Any
) -> None:
    objective, model = pair_of(made)
    inputs = made.sample_inputs(7)
    found = []
    for size in (None, chunk):
        model.zero_grad()
        loss = backward(objective, model, inputs, autocast=make_autocast(CPU, precision), chunk=size)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((loss, gradient))
    (whole, one), (pieces, other) = found
    assert pieces.metrics.keys() == {"contrastive_loss", "captioning_loss", "batch_accuracy", "token_accuracy"}
    margin = 1e-5 if precision == "fp32" else 2e-2
    assert (one - other).norm() < margin * one.norm()
    for name in ("contrastive_loss", "captioning_loss"):
        torch.testing.assert_close(pieces.metrics[name], whole.metrics[name], rtol=margin, atol=0)
    assert float(whole.value) == pytest.approx(
        float(whole.metrics["contrastive_loss"] + 2 * whole.metrics["captioning_loss"]), rel=1e-6
    )


def test_shares_of_ranks_add_up(made: SimpleNamespace) -> None:
    objective, model = pair_of(made)
    inputs = made.sample_inputs(7)
    whole = objective.loss(model, objective.embed(model, inputs), inputs, None)
    spans = ((0, 3), (3, 7))
    pieces = [objective.embed(model, inputs.chunk(*span)) for span in spans]
    images, texts, terms = zip(*pieces, strict=True)
    shares = [
        objective.loss(model, pieces[rank], inputs.chunk(*spans[rank]), made.FakeGroup(rank, [terms, images, texts]))
        for rank in (0, 1)
    ]
    torch.testing.assert_close(shares[0].value + shares[1].value, whole.value)
    for name, metric in whole.metrics.items():
        torch.testing.assert_close(shares[0].metrics[name] + shares[1].metrics[name], metric)


def test_padding_changes_nothing_and_tokens_see_what_is_before_them_only(made: SimpleNamespace) -> None:
    objective, model = pair_of(made)
    inputs = made.sample_inputs(5)
    room = made.SPEC.text.context_length - inputs.tokens.shape[1]
    padded = Inputs(inputs.images, F.pad(inputs.tokens, (0, room)))
    for one, other in zip(objective.embed(model, inputs), objective.embed(model, padded), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(model.encode_text(inputs.tokens), objective.embed(model, inputs)[1])
    torch.testing.assert_close(model.encode_image(inputs.images), objective.embed(model, inputs)[0])
    whole = made.rows([1, 2, 3, 4])
    assert whole.shape[1] < made.SPEC.text.context_length
    changed = whole.clone()
    changed[0, 3] = 9
    _, patches = model.visual(inputs.images[:1])
    known = []
    for tokens in (whole, changed):
        text, words = model.text(tokens)
        known.append((text, model.decoder.transformer(words, model.decoder.pool(patches))))
    torch.testing.assert_close(known[0][1][:, :3], known[1][1][:, :3])
    assert not torch.allclose(known[0][1][:, 3], known[1][1][:, 3])
    assert not torch.allclose(known[0][0], known[1][0])
    # A full context has its class token too.
    full = made.rows([1] * (made.SPEC.text.context_length - 2))
    assert model.encode_text(full).isfinite().all()


@pytest.mark.parametrize(("width", "image_layers", "image", "text"), [(768, 12, 86, 297), (1024, 24, 303, 484)])
def test_the_papers_sizes_have_its_numbers_of_parameters(width: int, image_layers: int, image: int, text: int) -> None:
    """Table 1 of arXiv 2205.01917, in millions: CoCa-Base and CoCa-Large."""
    heads = width // 64
    spec = ClipSpec(
        embed_dim=width,
        vision=VisionSpec(image_size=288, patch_size=18, width=width, layers=image_layers, heads=heads),
        text=TextSpec(context_length=64, vocabulary=64_000, width=width, layers=12, heads=heads),
    )
    settings = objective_settings("contrastive_captioning", image_pool="model")
    with torch.device("meta"):
        model: Any = make_model(ModelSettings(spec=spec), settings)
    assert model.decoder.pool.queries.shape == (256, width)
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.visual, model.text, model.decoder)]
    assert counts[0] / 1e6 == pytest.approx(image, rel=0.015)
    assert (counts[1] + counts[2]) / 1e6 == pytest.approx(text, rel=0.015)
    # To the last one: two maps to and from the vocabulary, 12 blocks of 12 and 12 of 16 squares of the width.
    blocks = 12 * (12 * width**2 + 13 * width) + 12 * (16 * width**2 + 19 * width)
    ends = 2 * 64_000 * width + 64 * width + width + 2 * width + width**2 + 2 * width
    pool = 256 * width + 4 * width**2 + 4 * width + 2 * width
    assert counts[1] + counts[2] == blocks + ends + pool


def test_sizes_are_settings(made: SimpleNamespace) -> None:
    _, model = pair_of(made, image_tokens=3, multimodal_layers=1)
    assert model.decoder.pool.queries.shape == (3, 32)
    assert len(model.decoder.transformer.resblocks) == 1
    _, usual = pair_of(made)
    assert usual.decoder.pool.queries.shape == (4, 32)  # as many as there are patches
    assert usual.visual.attn_pool is not None
    _, plain = pair_of(made, image_pool="model")
    assert plain.visual.class_embedding is not None


@pytest.mark.parametrize(
    ("model", "words"),
    [({"name": "RN50"}, "which a ResNet does not have"), ({"name": "ViT-B/16-SigLIP"}, "text.causal is false")],
)
def test_models_that_do_not_fit_are_refused_in_a_sentence(model: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_model(ModelSettings.model_validate(model), objective_settings("contrastive_captioning"))
    assert words in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_open_clips_loss_is_the_same(made: SimpleNamespace) -> None:
    """`CoCaLoss` on the same embeddings and logits; its mean is over tokens too. Skipped without open_clip."""
    objective, model = pair_of(made)
    inputs = made.sample_inputs(6)
    outputs = objective.embed(model, inputs)
    found = objective.loss(model, outputs, inputs, None)
    with imported():
        from open_clip.loss import CoCaLoss

        _, patches = model.visual(inputs.images)
        _, words = model.text(inputs.tokens)
        decoder = model.decoder
        known = decoder.ln_final(decoder.transformer(words[:, :-2], decoder.pool(patches)))
        labels = inputs.tokens[:, 1:].clone()
        places = torch.arange(labels.shape[1])
        labels[places >= inputs.tokens.argmax(dim=1)[:, None]] = -1
        theirs = CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0, pad_id=-1)(
            outputs[0], outputs[1], decoder.to_vocabulary(known), labels, model.logit_scale.exp()
        )
    torch.testing.assert_close(found.value, sum(theirs))
    torch.testing.assert_close(2 * found.metrics["captioning_loss"], theirs[1].detach())
