import pytest

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, ModelSettings
from openwit.training.config.images import SIGLIP_IMAGES, ImageSpec, of_hugging_face, of_open_clip, pillow_number
from openwit.training.export.hugging_face import preprocessing as hugging_face
from openwit.training.export.open_clip import preprocessing as open_clip

HALF = (0.5, 0.5, 0.5)
OTHER = ImageSpec(mean=HALF, std=HALF, interpolation="bilinear", resize="squash")


def test_settings_replace_what_the_architecture_has() -> None:
    assert ModelSettings().inputs.images == ImageSpec()
    given = ModelSettings.model_validate({"images": {"mean": HALF, "resize": "squash"}})
    assert given.inputs.images == ImageSpec(mean=HALF, resize="squash")
    spec = {"images": {"std": HALF, "interpolation": "bilinear"}}
    both = ModelSettings.model_validate({"spec": spec, "images": {"mean": HALF}})
    assert both.inputs.images == ImageSpec(mean=HALF, std=HALF, interpolation="bilinear")
    own = CustomModelSettings.model_validate({"name": "a.b", "images": {"resize": "longest"}})
    assert own.inputs.images.resize == "longest"
    assert own.settings == {}


@pytest.mark.parametrize("images", [{"std": [0, 1, 1]}, {"mean": [123.7, 116.3, 103.5]}, {"resize": "crop"}])
def test_what_cannot_be_is_refused(images: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="images"):
        ModelSettings.model_validate({"images": images})


def test_other_programs_files_are_read_as_they_are_written() -> None:
    for spec in (ImageSpec(), OTHER, SIGLIP_IMAGES):
        assert of_open_clip(open_clip(spec)) == spec
        assert of_hugging_face(hugging_face(64, spec)) == spec
    assert of_open_clip({}) == ImageSpec()
    assert of_hugging_face({"do_normalize": False, "resample": 1}).std == (1.0, 1.0, 1.0)
    assert pillow_number(OTHER) == 2
    assert open_clip(ImageSpec(resize="longest"))["resize_mode"] == "longest"


def test_what_another_program_lacks_is_a_sentence() -> None:
    with pytest.raises(RecipeError, match="no lanczos interpolation"):
        open_clip(ImageSpec(interpolation="lanczos"))
    with pytest.raises(RecipeError, match="puts nothing around"):
        hugging_face(64, ImageSpec(resize="longest"))
    with pytest.raises(RecipeError, match="interpolation"):
        of_open_clip({"interpolation": "random"})
    with pytest.raises(RecipeError, match="filter 5"):
        of_hugging_face({"resample": 5})
