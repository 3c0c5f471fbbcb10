import pytest

from openwit.pipeline.readers.pages.image_rules import (
    Evidence,
    ImageRules,
    declared_sides,
    is_ratio,
    name_reason,
    size_reason,
)

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
        ("1", "1", "width:100%; height:auto", (None, None)),
        ("1", None, "WIDTH : 640px", (640, None)),
        ("1" + " " * 50_000 + "x", None, "width:1" + " " * 50_000 + "x", (1, None)),
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
        (2, 300, None),
        (2, 2, "tracking_pixel"),
        (300, 1, None),
        (1, 0, "tracking_pixel"),
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


@pytest.mark.parametrize(
    "name",
    [
        "google-pixel-6.jpg", "clear-lake.jpg", "crash-test-dummy.jpg", "blank-check.jpg", "iconic-building.jpg",
        "logo-design-for-bakery.jpg", "pixel-art.webp", "transparent-bag.jpeg", "wheel-spacer-25mm.jpg",
        "sprite-can.jpg", "emoji-cake.jpg", "empty-room.jpg", "grey-wolf.png", "dot-painting.png", "loading-dock.png",
    ],
)  # fmt: skip
def test_a_word_in_a_photos_name_drops_nothing(name: str) -> None:
    assert name_reason(f"http://a.example/{name}", RULES) is None


@pytest.mark.parametrize(
    ("name", "evidence", "reason"),
    [
        ("google-pixel-6.png", Evidence(), "placeholder"),
        ("google-pixel-6.png", Evidence(specific_text=True), None),
        ("clear-lake.png", Evidence(large=True), None),
        ("sprite-can.png", Evidence(), "icon"),
        ("sprite-can.png", Evidence(specific_text=True), None),
        ("emoji-12.png", Evidence(specific_text=True), "icon"),
        ("emoji-12.png", Evidence(large=True), None),
        *(
            (name, Evidence(specific_text=True, large=True), "placeholder")
            for name in (
                "pixel.gif", "blank.png", "spacer.gif", "blank.jpg", "1x1.png", "image-placeholder-400x300.jpg",
                "lazy-placeholder.png", "transparent-1.png", "placeholder.webp", "grey.gif", "blank_square.png",
                "index-transparent_h-313_w-466_zc-2b7900b6.gif",
            )
        ),
    ],
)  # fmt: skip
def test_other_evidence_outweighs_a_word_but_not_a_whole_name(
    name: str, evidence: Evidence, reason: str | None
) -> None:
    assert name_reason(f"http://a.example/{name}", RULES, evidence) == reason


@pytest.mark.parametrize(
    ("width", "height", "layout", "ratio"),
    [
        (16, 9, None, True), (9, 16, None, True), (4, 3, None, True), (1, 1, None, False), (1, 1, "responsive", True),
        (16, 16, None, False), (300, 200, "fixed", False), (None, None, " Fill ", True), (16, None, None, False),
    ],
)  # fmt: skip
def test_sides_may_be_a_ratio(width: int | None, height: int | None, layout: str | None, ratio: bool) -> None:
    assert is_ratio(width, height, layout) is ratio
