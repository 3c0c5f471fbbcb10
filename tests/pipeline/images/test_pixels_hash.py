from typing import Any

from PIL import Image

from openwit.pipeline.images.process import ImageSettings, ProcessedImage, ResizeMode, pixels_hash, process_image


def test_equal_pixels_in_other_files_have_one_digest(photo: Any, encoded: Any) -> None:
    small = photo(200, 150)
    results = [process_image(encoded(small, name), ImageSettings()) for name in ("PNG", "BMP", "TIFF")]
    results.append(process_image(encoded(small, "WEBP", lossless=True), ImageSettings()))
    assert all(isinstance(result, ProcessedImage) for result in results)
    assert {getattr(result, "pixels_hash", None) for result in results} == {pixels_hash(small)}
    assert len({getattr(result, "sha256", None) for result in results}) == 4


def test_an_untouched_jpeg_has_the_digest_of_its_pixels(photo: Any, encoded: Any) -> None:
    body = encoded(photo(200, 150))
    kept = process_image(body, ImageSettings())
    assert isinstance(kept, ProcessedImage)
    assert not kept.reencoded
    again = process_image(body + b"tail", ImageSettings(mode=ResizeMode.NO))
    assert isinstance(again, ProcessedImage)
    assert (again.sha256 != kept.sha256, again.pixels_hash) == (True, kept.pixels_hash)


def test_shape_and_pixels_both_count() -> None:
    tall, wide = Image.new("RGB", (2, 3)), Image.new("RGB", (3, 2))
    other = wide.copy()
    other.putpixel((2, 1), (0, 0, 1))
    assert len({pixels_hash(image) for image in (tall, wide, other)}) == 3
