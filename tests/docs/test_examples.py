"""The examples of docs/extending.md are files, and the files are what the page shows."""

import re

import pytest
from support.doc_pages import ROOT, blocks

EXAMPLES = ROOT / "docs" / "examples" / "plugins"
SHOWN = [block for block in blocks(ROOT / "docs" / "extending.md") if block.language == "python"]


def test_every_example_is_shown() -> None:
    shown = {block.text.partition("\n")[0].removeprefix("# ") for block in SHOWN}
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py") if path.name != "__init__.py"}
    assert shown == files


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_what_is_shown_is_the_file(block) -> None:
    name, _, code = block.text.partition("\n")
    file = (EXAMPLES / name.removeprefix("# ")).read_text()
    assert file.endswith(code)
    assert re.fullmatch(r'""".*?"""\n\n?', file.removesuffix(code), re.DOTALL), "only the docstring is left out"
