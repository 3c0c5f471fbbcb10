"""The models against a second statement of the paper's architecture, which shares no code with them."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.config.zoo import ResNetSpec

Weights = dict[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor, quick: bool) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x)) if quick else x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool) -> Tensor:
    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1))

    scores = torch.einsum("bqhd,bkhd->bhqk", split(query), split(key)) * (query.shape[-1] // heads) ** -0.5
    if causal:
        later = torch.arange(scores.shape[-1])[None, :] > torch.arange(scores.shape[-2])[:, None]
        scores = scores.masked_fill(later, -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), split(value)).flatten(2)


def transformer(w: Weights, name: str, x: Tensor, layers: int, heads: int, causal: bool, quick: bool) -> Tensor:
    for number in range(layers):
        block = f"{name}.resblocks.{number}"
        normal = layer_norm(w, f"{block}.ln_1", x)
        inner = normal @ w[f"{block}.attn.in_proj_weight"].T + w[f"{block}.attn.in_proj_bias"]
        x = x + linear(w, f"{block}.attn.out_proj", attend(*inner.chunk(3, -1), heads, causal))
        hidden = gelu(linear(w, f"{block}.mlp.c_fc", layer_norm(w, f"{block}.ln_2", x)), quick)
        x = x + linear(w, f"{block}.mlp.c_proj", hidden)
    return x


def text_tower(w: Weights, spec, tokens: Tensor) -> Tensor:
    x = w["token_embedding.weight"][tokens] + w["positional_embedding"]
    x = transformer(w, "transformer", x, spec.text.layers, spec.text.heads, True, spec.quick_gelu)
    ends = (tokens == spec.text.vocabulary - 1).int().argmax(1)
    return layer_norm(w, "ln_final", x)[range(len(x)), ends] @ w["text_projection"]


def vision_transformer(w: Weights, spec, images: Tensor) -> Tensor:
    size = spec.vision.patch_size
    patches = images.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ w["visual.conv1.weight"].flatten(1).T
    first = w["visual.class_embedding"].expand(len(x), 1, -1)
    x = layer_norm(w, "visual.ln_pre", torch.cat([first, x], 1) + w["visual.positional_embedding"])
    x = transformer(w, "visual.transformer", x, spec.vision.layers, spec.vision.heads, False, spec.quick_gelu)
    return layer_norm(w, "visual.ln_post", x[:, 0]) @ w["visual.proj"]


def batch_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    def wide(part: str) -> Tensor:
        return w[f"{name}.{part}"][:, None, None]

    return (x - wide("running_mean")) / (wide("running_var") + 1e-5).sqrt() * wide("weight") + wide("bias")


def halved(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def bottleneck(w: Weights, name: str, x: Tensor, halve: bool) -> Tensor:
    y = batch_norm(w, f"{name}.bn1", F.conv2d(x, w[f"{name}.conv1.weight"])).clamp(min=0)
    y = batch_norm(w, f"{name}.bn2", F.conv2d(y, w[f"{name}.conv2.weight"], padding=1)).clamp(min=0)
    y = batch_norm(w, f"{name}.bn3", F.conv2d(halved(y) if halve else y, w[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in w:
        x = F.conv2d(halved(x) if halve else x, w[f"{name}.downsample.0.weight"])
        x = batch_norm(w, f"{name}.downsample.1", x)
    return (x + y).clamp(min=0)


def resnet(w: Weights, spec, images: Tensor) -> Tensor:
    x = images
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.conv2d(x, w[f"visual.conv{number}.weight"], stride=stride, padding=1)
        x = batch_norm(w, f"visual.bn{number}", x).clamp(min=0)
    x = halved(x)
    for stage, blocks in enumerate(spec.vision.layers, 1):
        for number in range(blocks):
            x = bottleneck(w, f"visual.layer{stage}.{number}", x, halve=stage > 1 and number == 0)
    x = x.flatten(2).mT
    pool = "visual.attnpool"
    x = torch.cat([x.mean(1, keepdim=True), x], 1) + w[f"{pool}.positional_embedding"]
    query, key, value = (linear(w, f"{pool}.{part}_proj", x) for part in "qkv")
    return linear(w, f"{pool}.c_proj", attend(query, key, value, spec.vision.heads, False)[:, 0])


@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_outputs_are_those_of_the_second_statement(small, name: str, quick_gelu: bool) -> None:
    spec = small.specs[name].model_copy(update={"quick_gelu": quick_gelu})
    model = small.scrambled(spec)
    weights = {key.removeprefix("text."): tensor for key, tensor in model.state_dict().items()}
    images = small.pictures(3, spec.vision.image_size)
    tokens = small.tokens(4, spec.text.context_length, spec.text.vocabulary)
    tower = resnet if isinstance(spec.vision, ResNetSpec) else vision_transformer
    with torch.no_grad():
        for ours, plain in (
            (model.visual(images), tower(weights, spec, images)),
            (model.text(tokens), text_tower(weights, spec, tokens)),
            (model.encode_image(images), F.normalize(tower(weights, spec, images))),
            (model.encode_text(tokens), F.normalize(text_tower(weights, spec, tokens))),
        ):
            assert plain.std(0).mean() > 0.005  # the inputs matter
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
