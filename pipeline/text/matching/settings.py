"""Name the ways to match captions."""

from typing import Literal

MatchMode = Literal["words", "metaclip"]
