import math

import pytest
import torch
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.zoo import ZOO, ClipSpec, ResNetSpec, TextSpec, VisionSpec, spec_of
from openwit.training.models.blocks import Attention, QuickGELU, Style
from openwit.training.models.clip import Clip
from openwit.training.models.text import TextTransformer
from openwit.training.models.vit import VisionTransformer
from openwit.training.models.weights import TEXT_HEAD_WIDTHS, VISION_HEAD_WIDTHS
from openwit.training.objectives.contrastive import ContrastiveObjective

SMALL = ClipSpec(
    embed_dim=24,
    vision=VisionSpec(image_size=32, patch_size=8, width=48, layers=2, heads=3),
    text=TextSpec(context_length=12, vocabulary=100, width=32, layers=2, heads=2),
)


# Sizes of the weights that OpenAI released.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ViT-B/32", 151_277_313),
        ("ViT-B/16", 149_620_737),
        ("ViT-L/14", 427_616_513),
        ("ViT-L/14@336px", 427_944_193),
        ("RN50", 102_007_137),
        ("RN101", 119_688_033),
        ("RN50x4", 178_300_601),
        ("RN50x16", 290_979_217),
        ("RN50x64", 623_258_305),
    ],
)
def test_the_papers_models_have_the_published_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = Clip(spec_of(name))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_every_model_of_the_zoo_has_heads_of_64_or_as_published() -> None:
    for spec in ZOO.values():
        channels = spec.vision.channels if isinstance(spec.vision, ResNetSpec) else spec.vision.width
        assert channels // spec.vision.heads == VISION_HEAD_WIDTHS.get(channels, 64)
        assert spec.text.width // spec.text.heads == TEXT_HEAD_WIDTHS.get(spec.text.width, 64)


def test_names_are_found_however_they_are_spelled() -> None:
    assert spec_of("vit-b-32") is ZOO["ViT-B/32"]
    for name in ("ViT-L/14@336px", "ViT-L/14@336", "ViT-L-14-336"):
        assert spec_of(name) is ZOO["ViT-L/14@336px"]
    assert spec_of("rn50x16") is ZOO["RN50x16"]
    with pytest.raises(OpenWITError, match="known models"):
        spec_of("RN9000")


def test_attention_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours = Attention(32, 4)
    nn.init.normal_(ours.in_proj_weight, std=0.2)
    nn.init.normal_(ours.in_proj_bias, std=0.2)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 7, 32)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    for causal in (False, True):
        expected, _ = theirs(x, x, x, attn_mask=mask if causal else None, need_weights=False)
        torch.testing.assert_close(ours(x, causal), expected)


def test_the_image_tower_is_the_papers_equations() -> None:
    torch.manual_seed(0)
    tower = VisionTransformer(SMALL.vision, 24, Style(quick_gelu=True)).eval()
    images = torch.randn(2, 3, 32, 32)
    patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, -1)
    x = patches @ tower.conv1.weight.flatten(1).T
    x = torch.cat([tower.class_embedding.expand(2, 1, -1), x], 1) + tower.positional_embedding
    x = tower.ln_pre(x)
    for block in tower.transformer.resblocks:
        x = x + block.attn(block.ln_1(x), causal=False)
        hidden = block.mlp.c_fc(block.ln_2(x))
        x = x + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))
    torch.testing.assert_close(tower(images), tower.ln_post(x[:, 0]) @ tower.proj, rtol=1e-4, atol=1e-5)


def test_quick_gelu_and_gelu_differ() -> None:
    x = torch.linspace(-3, 3, 9)
    assert not torch.allclose(QuickGELU()(x), nn.GELU()(x), atol=1e-3)


def tokens(lengths: list[int], width: int) -> torch.Tensor:
    rows = torch.zeros(len(lengths), width, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(1, 98, (length,), generator=generator)
        row[0], row[length - 1] = 98, 99
    return rows


def test_trimming_texts_to_the_longest_is_exact() -> None:
    torch.manual_seed(0)
    tower = TextTransformer(SMALL.text, 24, Style())
    full = tokens([4, 6, 3], 12)
    torch.testing.assert_close(tower(full[:, :6]), tower(full), rtol=1e-5, atol=1e-6)
    noisy = full.clone()
    noisy[0, 4:] = 7
    torch.testing.assert_close(tower(noisy), tower(full), rtol=1e-5, atol=1e-6)


def test_text_sees_only_what_comes_before() -> None:
    torch.manual_seed(0)
    tower = TextTransformer(SMALL.text, 24, Style())
    full = tokens([8], 12)
    hidden = tower.token_embedding(full) + tower.positional_embedding
    changed = full.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 98
    other = tower.token_embedding(changed) + tower.positional_embedding
    before, after = tower.transformer(hidden)[0], tower.transformer(other)[0]
    torch.testing.assert_close(before[:5], after[:5])
    assert (before[5:] - after[5:]).abs().max() > 1e-3


def test_embeddings_have_unit_length_and_float32_under_autocast() -> None:
    model = Clip(SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = model.encode_image(torch.randn(3, 3, 32, 32))
        texts = model.encode_text(tokens([4, 5, 6], 12))
    for embeddings in (images, texts):
        assert embeddings.shape == (3, 24)
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_initialisation_has_the_published_spread() -> None:
    torch.manual_seed(0)
    model = Clip(spec_of("vit-tiny-64"))
    width, layers = 192, 6
    block = model.visual.transformer.resblocks[0]
    for parameter, std in (
        (block.attn.in_proj_weight, width**-0.5),
        (block.attn.out_proj.weight, (2 * layers * width) ** -0.5),
        (block.mlp.c_fc.weight, (2 * width) ** -0.5),
        (block.mlp.c_proj.weight, (2 * layers * width) ** -0.5),
        (model.text.token_embedding.weight, 0.02),
        (model.text.positional_embedding, 0.01),
        (model.text.text_projection, width**-0.5),
    ):
        assert float(parameter.detach().std()) == pytest.approx(std, rel=0.05)
    assert not block.mlp.c_fc.bias.any()
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_the_temperature_is_held_at_a_hundred_outside_the_gradient() -> None:
    model = Clip(SMALL)
    with torch.no_grad():
        model.logit_scale.fill_(7.0)
    ContrastiveObjective().after_step(model)
    assert model.logit_scale.exp().item() == pytest.approx(100)
    model.logit_scale.exp().backward()
    assert float(model.logit_scale.grad) == pytest.approx(100)


def test_patch_dropout_keeps_some_patches_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    tower = VisionTransformer(SMALL.vision, 24, Style(), patch_dropout=0.5)
    assert tower.kept_patches == 8
    lengths = []
    tower.transformer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    images = torch.randn(2, 3, 32, 32)
    tower.train()
    first, second = tower(images), tower(images)
    assert not torch.allclose(first, second)
    tower.eval()
    torch.testing.assert_close(tower(images), tower(images), rtol=0, atol=0)
    assert lengths == [9, 9, 17, 17]


def test_a_convolutional_stem_gives_the_same_tokens() -> None:
    spec = SMALL.vision.model_copy(update={"stem": "convolutions"})
    tower = VisionTransformer(spec, 24, Style())
    images = torch.randn(2, 3, 32, 32)
    assert tower.conv1(images).shape == (2, 48, 4, 4)
    assert tower(images).shape == (2, 24)
    torch.testing.assert_close(tower(images)[:1], tower(images[:1]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="power of two"):
        VisionSpec(image_size=42, patch_size=14, stem="convolutions")
