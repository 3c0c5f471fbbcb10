"""Count the steps of a backtracking matcher, so that tests can state how a pattern's work grows without a clock.

Interprets the parse tree of `re` as its engine does: choices in order, one step per item tried at a place.
"""

import re
from collections.abc import Iterator, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Groups = tuple[tuple[int, tuple[int, int]], ...]


def steps(pattern: re.Pattern[Any], text: str, *, anchored: bool = False) -> int:
    """Return the steps of finding all matches in a text, as `sub` and `finditer` do, or the one at its start."""
    counter = _Counter(pattern, text)
    place = 0
    if anchored:
        counter.match_at(0)
        return counter.steps
    while place <= len(text):
        end = counter.match_at(place)
        place = max(place + 1, end) if end is not None else place + 1
    return counter.steps


class _Counter:
    def __init__(self, pattern: re.Pattern[Any], text: str) -> None:
        source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
        self.flags = pattern.flags
        self.tree = list(_parser.parse(source, self.flags & ~re.UNICODE))
        self.text = text
        self.steps = 0
        self.fold = bool(self.flags & re.IGNORECASE)

    def match_at(self, place: int) -> int | None:
        found = next(self.run(self.tree, 0, place, {}), None)
        return None if found is None else found[0]

    def run(self, items: Sequence[Any], at: int, place: int, groups: dict[int, tuple[int, int]]) -> Iterator[Any]:
        if at == len(items):
            yield place, groups
            return
        for end, held in self.item(items[at], place, groups):
            yield from self.run(items, at + 1, end, held)

    def item(self, item: Any, place: int, groups: dict[int, tuple[int, int]]) -> Iterator[Any]:
        self.steps += 1
        kind, value = item
        if kind in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            if place < len(self.text) and self.accepts(item, self.text[place]):
                yield place + 1, groups
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield from self.run(list(branch), 0, place, groups)
        elif kind is op.SUBPATTERN:
            for end, held in self.run(list(value[3]), 0, place, groups):
                yield end, held if value[0] is None else {**held, value[0]: (place, end)}
        elif kind is op.ATOMIC_GROUP:
            yield from self.first(self.run(list(value), 0, place, groups))
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            yield from self.assertion(kind, value, place, groups)
        elif kind is op.AT:
            if self.boundary(value, place):
                yield place, groups
        elif kind is op.GROUPREF:
            begin, end = groups.get(value, (0, 0))
            if self.text.startswith(self.text[begin:end], place):
                yield place + end - begin, groups
        else:
            yield from self.repeat(kind, value, place, groups)

    @staticmethod
    def first(found: Iterator[Any]) -> Iterator[Any]:
        one = next(found, None)
        if one is not None:
            yield one

    def repeat(self, kind: Any, value: Any, place: int, groups: dict[int, tuple[int, int]]) -> Iterator[Any]:
        low, high, body = value
        body = list(body)
        if kind is op.POSSESSIVE_REPEAT:
            yield from self.first(self.repeat(op.MAX_REPEAT, value, place, groups))
            return
        if len(body) == 1 and body[0][0] in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            most = place
            limit = min(len(self.text), place + int(high))
            while kind is op.MAX_REPEAT and most < limit and self.accepts(body[0], self.text[most]):
                self.steps += 1
                most += 1
            if kind is op.MAX_REPEAT:
                for end in range(most, place + low - 1, -1):
                    self.steps += 1
                    yield end, groups
                return
            while True:
                if most >= place + low:
                    yield most, groups
                self.steps += 1
                if most >= limit or not self.accepts(body[0], self.text[most]):
                    return
                most += 1
        if high > 0:
            more = (kind, (max(0, low - 1), high if high is op.MAXREPEAT else high - 1, body))
            if kind is op.MIN_REPEAT and not low:
                yield place, groups
            for end, held in self.run(body, 0, place, groups):
                if end > place:
                    yield from self.item(more, end, held)
            if kind is op.MAX_REPEAT and not low:
                yield place, groups
        elif not low:
            yield place, groups

    def assertion(self, kind: Any, value: Any, place: int, groups: dict[int, tuple[int, int]]) -> Iterator[Any]:
        direction, body = value
        begin = place if direction > 0 else place - body.getwidth()[0]
        held = begin >= 0 and next(self.run(list(body), 0, begin, groups), None) is not None
        if held == (kind is op.ASSERT):
            yield place, groups

    def boundary(self, where: Any, place: int) -> bool:
        text = self.text
        before = place > 0 and (text[place - 1].isalnum() or text[place - 1] == "_")
        after = place < len(text) and (text[place].isalnum() or text[place] == "_")
        many = bool(self.flags & re.MULTILINE)
        return {
            op.AT_BEGINNING: place == 0 or (many and text[place - 1] == "\n"),
            op.AT_BEGINNING_STRING: place == 0,
            op.AT_END: place == len(text) or (many and text[place] == "\n") or text[place:] == "\n",
            op.AT_END_STRING: place == len(text),
            op.AT_BOUNDARY: before != after,
            op.AT_NON_BOUNDARY: before == after,
        }[where]

    def accepts(self, item: Any, character: str) -> bool:
        kind, value = item
        if kind is op.ANY:
            return bool(self.flags & re.DOTALL) or character != "\n"
        if kind is op.IN:
            return _in(value, character) or (self.fold and _in(value, character.swapcase()))
        equal = ord(character) == value or (self.fold and character.casefold() == chr(value).casefold())
        return equal == (kind is op.LITERAL)


def _in(items: Sequence[Any], character: str) -> bool:
    code, found, negated = ord(character), False, False
    for kind, value in items:
        if kind is op.NEGATE:
            negated = True
        elif kind is op.LITERAL:
            found |= code == value
        elif kind is op.RANGE:
            found |= value[0] <= code <= value[1]
        else:
            space, digit = character.isspace(), character.isdecimal()
            word = character.isalnum() or character == "_"
            found |= {
                op.CATEGORY_SPACE: space,
                op.CATEGORY_NOT_SPACE: not space,
                op.CATEGORY_DIGIT: digit,
                op.CATEGORY_NOT_DIGIT: not digit,
                op.CATEGORY_WORD: word,
                op.CATEGORY_NOT_WORD: not word,
            }[value]
    return found != negated
