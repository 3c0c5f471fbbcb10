"""How captions are matched, by name."""

from typing import Literal

MatchMode = Literal["words", "metaclip"]
