"""Fill the marked blocks of Markdown pages with the figures of a run, so that none is written by hand."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError


def fill_marks(text: str, name: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with what is between `<!-- NAME: BLOCK -->` and `<!-- /NAME -->` made anew.

    Args:
        text: the page.
        name: of the marks.
        blocks: what makes each block.

    Raises:
        DataError: a mark names no block.
    """

    def fill(found: re.Match[str]) -> str:
        if found[2] not in blocks:
            raise DataError(f"a page asks for the block {found[2]!r} of {name}; there are {', '.join(blocks)}")
        return f"{found[1]}{blocks[found[2]]()}\n{found[3]}"

    mark = re.compile(rf"(<!-- {re.escape(name)}: (\w+) -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    return mark.sub(fill, text)


def update_page(page: Path, render: Callable[[str], str]) -> bool:
    """Render a page in place; return whether it changed.

    Raises:
        DataError: it cannot be read.
    """
    try:
        before = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{page} cannot be read: {error}") from error
    after = render(before)
    if after != before:
        atomic_write(page, after)
    return after != before
