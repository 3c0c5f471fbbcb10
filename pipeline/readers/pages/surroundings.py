"""Tell what an image stands in: the nearest link, figure and picture above it, and whether it is in a `<noscript>`.

Images of a page share most of what is above them, so that is looked at once.
"""

from selectolax.lexbor import LexborHTMLParser, LexborNode

_LEVELS = 16  # ancestors that count for an image
_OWN_LEVELS = 3  # of which other images share few


def tag_id(name: str) -> int:
    """Return the parser's number of a tag of HTML, which costs less to read of a node than the name."""
    node = LexborHTMLParser(f"<body><{name}></{name}>").css_first(name)
    assert node is not None
    return node.tag_id


_A, _FIGURE, _PICTURE, _NOSCRIPT, _BODY = _TAGS = tuple(map(tag_id, ("a", "figure", "picture", "noscript", "body")))
_IS_OF_INTEREST = frozenset(_TAGS).__contains__

Surroundings = tuple[LexborNode | None, LexborNode | None, LexborNode | None, LexborNode | None]
"""The nearest link, figure, picture and `<noscript>`."""

_NOTHING: Surroundings = (None, None, None, None)


class Ancestors:
    """Look at the ancestors of the images of one page; what is higher than a few levels is looked up once."""

    def __init__(self) -> None:
        self._higher: dict[int, Surroundings] = {}

    def around(self, image: LexborNode) -> Surroundings:
        """Return what is around an image."""
        own, above = _look_up(image.parent, _OWN_LEVELS)
        if above is None:
            return own
        key = above.mem_id
        higher = self._higher.get(key)
        if higher is None:
            higher = self._higher[key] = _look_up(above, _LEVELS - _OWN_LEVELS)[0]
        if higher is _NOTHING:
            return own
        if own is _NOTHING:
            return higher
        return own[0] or higher[0], own[1] or higher[1], own[2] or higher[2], own[3] or higher[3]


def _look_up(node: LexborNode | None, levels: int) -> tuple[Surroundings, LexborNode | None]:
    """Return what some levels from a node on hold, and the node above them; None from the body on."""
    found = _NOTHING
    for _ in range(levels):
        if node is None:
            break
        tag = node.tag_id
        if _IS_OF_INTEREST(tag):
            if tag == _BODY:
                return found, None
            link, figure, picture, noscript = found
            if tag == _A:
                link = link or node
            elif tag == _FIGURE:
                figure = figure or node
            elif tag == _PICTURE:
                picture = picture or node
            else:
                noscript = noscript or node
            found = (link, figure, picture, noscript)
        node = node.parent
    return found, node
