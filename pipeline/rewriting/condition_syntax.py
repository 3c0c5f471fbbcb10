"""Read conditions as users write them: a column, an operator and a value. Nothing heavy is imported here."""

import re

from openwit.schemas.common.errors import RecipeError

_PARSED = re.compile(
    r"""\s*("[^"]+"|[^\s=!<>~"]+)\s*(==|=|!=|<=|>=|<|>|!~|~|\bnot\s+in\b|\bin\b|\bis\s+not\b|\bis\b)\s*(.*?)\s*""",
    re.DOTALL | re.IGNORECASE,
)


def split_condition(text: str) -> tuple[str, str, str]:
    """Return column, operator and value of a condition.

    Operators are == != < <= > >= ~ !~ (regular expressions), in, not in (a, b), is (not) null.

    Raises:
        RecipeError: it is no condition.
    """
    found = _PARSED.fullmatch(text)
    if found is None:
        raise RecipeError(
            f"{text!r} is not a condition: write COLUMN OPERATOR VALUE, such as 'width >= 256', 'language in en,de', "
            "'caption ~ kite' or 'author is not null'"
        )
    column, operator, value = found[1].strip('"'), " ".join(found[2].lower().split()), found[3]
    if operator in ("is", "is not") and value.lower() != "null":
        raise RecipeError(f"condition {text!r}: after `{operator}` comes null")
    if not value:
        raise RecipeError(f"condition {text!r} has no value; write '\"\"' for an empty text")
    return column, operator, value
