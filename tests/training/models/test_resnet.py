import pytest
import torch
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config import ModelSettings, OptimSettings
from openwit.training.config.zoo import ZOO, ClipSpec, ResNetSpec, VisionSpec, spec_of
from openwit.training.engine.optim import make_optimizer
from openwit.training.models.clip import Clip
from openwit.training.models.resnet import AttentionPool, Bottleneck, ResNet


def test_stages_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        tower = ResNet(ZOO["RN50x4"].vision, 640)
        x = torch.empty(1, 80, 72, 72)
        shapes = []
        for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
            x = stage(x)
            shapes.append(tuple(x.shape[1:]))
        assert tower(torch.empty(2, 3, 288, 288)).shape == (2, 640)
        assert tower.features(torch.empty(2, 3, 288, 288)).shape == (2, 2560)
    assert shapes == [(320, 72, 72), (640, 36, 36), (1280, 18, 18), (2560, 9, 9)]


def test_initialisation_is_the_released_codes(small) -> None:
    torch.manual_seed(0)
    tower = Clip(small.specs["resnet"]).visual
    channels = 512
    for layer in (tower.attnpool.q_proj, tower.attnpool.k_proj, tower.attnpool.v_proj, tower.attnpool.c_proj):
        assert float(layer.weight.detach().std()) == pytest.approx(channels**-0.5, rel=0.05)
    for block in (module for module in tower.modules() if isinstance(module, Bottleneck)):
        assert not block.bn3.weight.any()
        assert (block.bn2.weight == 1).all()
    assert (tower.bn3.weight == 1).all()  # the stem's third is not the end of a block


def test_a_new_block_is_its_shortcut() -> None:
    block = Bottleneck(16, 4, stride=1).eval()
    x = torch.rand(2, 16, 6, 6)
    torch.testing.assert_close(block(x), x)


def test_a_stride_is_an_average_and_no_position_is_left_out() -> None:
    block = Bottleneck(8, 4, stride=2).eval()
    x = torch.rand(1, 8, 6, 6, requires_grad=True)
    block(x).sum().backward()
    assert block.downsample[0].stride == block.conv2.stride == (1, 1)
    assert (x.grad != 0).all()


def test_attention_pooling_is_pytorchs_attention_asked_by_the_mean() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(positions=9, channels=32, heads=4, embed_dim=10)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([pool.q_proj.weight, pool.k_proj.weight, pool.v_proj.weight]))
        theirs.in_proj_bias.copy_(torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]))
        theirs.out_proj.weight.copy_(torch.eye(32))
        theirs.out_proj.bias.zero_()
    x = torch.randn(2, 32, 3, 3)
    tokens = x.flatten(2).mT
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding
    expected, _ = theirs(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(pool(x), expected[:, 0])


def test_gains_and_biases_of_batch_normalisation_are_not_decayed(small) -> None:
    model = Clip(small.specs["resnet"])
    decayed, plain = make_optimizer(model, OptimSettings()).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    untouched = {names[id(parameter)] for parameter in plain["params"]}
    assert {name for name in names.values() if ".bn" in name or "downsample.1" in name} <= untouched
    assert all(
        name.endswith((".bias", "_bias")) or "bn" in name or "downsample.1" in name or "ln_" in name
        for name in untouched - {"logit_scale"}
    )
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_every_parameter_learns_and_statistics_move_only_in_training(small) -> None:
    model = small.scrambled(small.specs["resnet"])
    before = model.visual.bn1.running_mean.clone()
    images, texts = torch.randn(4, 3, 64, 64), small.tokens(4, 12, 100)
    model.encode_image(images)
    assert torch.equal(model.visual.bn1.running_mean, before)
    model.train()
    (model.encode_image(images) @ model.encode_text(texts).T * model.logit_scale).diagonal().sum().backward()
    assert not torch.equal(model.visual.bn1.running_mean, before)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bf16_answers_float32(small) -> None:
    model = Clip(small.specs["resnet"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encode_image(torch.randn(2, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"kind": "resnet", "image_size": 100}, "multiple of 32"),
        ({"kind": "resnet", "heads": 7}, "heads 7 must divide"),
        ({"kind": "resnet", "layers": [3, 4, 6]}, "spec.vision.layers"),
        ({"kind": "resnet", "layers": [3, 4, 6, 0]}, "spec.vision.layers.3"),
        ({"kind": "resnet", "width": 5}, "multiple of 2"),
        ({"kind": "resnet", "widht": 64}, "unknown key 'spec.vision.widht'; did you mean 'width'?"),
        ({"kind": "resnet", "patch_size": 16}, "unknown key 'spec.vision.patch_size'"),
        ({"kind": "convnext"}, "kind 'convnext' must be vit or resnet"),
    ],
)
def test_mistakes_are_named(vision: dict, words: str) -> None:
    with pytest.raises(OpenWITError) as caught:
        parse_settings({"spec": {"vision": vision}}, ModelSettings, "model")
    assert words in str(caught.value)


def test_patches_cannot_be_dropped_from_a_resnet(small) -> None:
    with pytest.raises(OpenWITError, match="patch_dropout"):
        parse_settings({"name": "RN50", "patch_dropout": 0.5}, ModelSettings, "model")
    with pytest.raises(OpenWITError, match="patch_dropout"):
        Clip(small.specs["resnet"], patch_dropout=0.5)


def test_a_spec_survives_its_json_and_says_which_tower_it_is() -> None:
    for spec in ZOO.values():
        assert ClipSpec.model_validate_json(spec.model_dump_json()) == spec
    assert isinstance(ClipSpec.model_validate({"vision": {"kind": "resnet"}}).vision, ResNetSpec)
    assert isinstance(ClipSpec.model_validate({"vision": {}}).vision, VisionSpec)


def test_the_activation_can_be_chosen_for_a_named_model() -> None:
    assert ModelSettings(name="RN50").resolved() == spec_of("RN50")
    assert ModelSettings(name="RN50", quick_gelu=False).resolved().quick_gelu is False
    assert ModelSettings(name="RN50", quick_gelu=False).resolved().vision == spec_of("RN50").vision
