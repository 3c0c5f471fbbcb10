import pytest

from openwit.pipeline.readers.pages.image_rules import ImageRules, declared_sides, name_reason, size_reason

RULES = ImageRules()


@pytest.mark.parametrize(
    ("width", "height", "style", "sides"),
    [
        ("300", "200", None, (300, 200)),
        (" 300px ", "12.5", None, (300, 12)),
        ("100%", "auto", None, (None, None)),
        (None, None, "width: 1px; height:1px !important", (1, 1)),
        (None, "20", "max-width:5px;border-width:1px", (None, 20)),
        (None, None, "width:50%", (None, None)),
        ("", "x", "", (None, None)),
    ],
)
def test_declared_sides(
    width: str | None, height: str | None, style: str | None, sides: tuple[int | None, int | None]
) -> None:
    assert declared_sides(width, height, style) == sides


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1, 1, "tracking_pixel"),
        (2, 300, "tracking_pixel"),
        (None, 1, "tracking_pixel"),
        (0, 0, None),
        (16, 16, "icon"),
        (31, None, "icon"),
        (32, 32, None),
        (400, 20, None),
        (None, None, None),
    ],
)
def test_size_reason(width: int | None, height: int | None, reason: str | None) -> None:
    assert size_reason(width, height, RULES) == reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a.example/photo.jpg", None),
        ("http://a.example/favicon.ico", "icon"),
        ("http://a.example/favicon-32x32.png", "icon"),
        ("http://a.example/img/sprite_main.png?v=2", "icon"),
        ("http://a.example/emoji-pillow-on-a-sofa.jpg", None),
        ("http://a.example/sprites/photo.jpg", None),
        ("http://a.example/logo.svg", "svg"),
        ("http://a.example/logo.svg?x=photo.jpg", "svg"),
        ("http://a.example/blank.gif", "placeholder"),
        ("http://a.example/lazy-placeholder.png", "placeholder"),
        ("http://a.example/1x1.png", "placeholder"),
        ("http://a.example/loading.gif", "placeholder"),
        ("http://a.example/index-transparent_h-313_w-466_zc-2b7900b6.gif", "placeholder"),
        ("http://a.example/%62lank.gif", None),
        ("http://a.example/point-blank-movie-poster.jpg", None),
        ("http://a.example/loading-a-truck.jpg", None),
        ("http://a.example/", None),
    ],
)
def test_name_reason(url: str, reason: str | None) -> None:
    assert name_reason(url, RULES) == reason


def test_rules_can_be_switched_off() -> None:
    keep_all = ImageRules(tracking_pixel_side=0, icon_side=0, drop_icons=False, drop_svg=False)
    assert size_reason(1, 1, keep_all) is None
    assert name_reason("http://a.example/logo.svg", keep_all) is None
    assert name_reason("http://a.example/favicon.ico", keep_all) is None
