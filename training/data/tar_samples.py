"""Gather the members of a tar to samples: an image, and the members with its words or its class.

A member belongs to the sample that its name up to the first dot names, as in WebDataset. Names with dots of their own
(`track 0.5 (v2.0).jpg` and `.txt`) would then run together: a name up to the last dot that has both an image and words
is a sample of its own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from openwit.schemas.common.tar_members import is_metadata

_PHOTO = ("jpg", "jpeg", "png", "webp", "jpe", "jfif")
IMAGE_SUFFIXES = (*_PHOTO, "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm", "avif")
TRAINING_KINDS = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    "txt": "text",
    "text": "text",
    "caption": "text",
    "json": "json",
}
"""What a member of a training sample is, by suffix."""

NO_IMAGE, NO_TEXT, OTHER, DOUBLE = "no image", "no text", "other member", "double member"
METADATA = "metadata of a system"

# A suffix of several parts, such as `seg.png` or `left.jpg`: a second image of a sample, not a name with dots.
_KIND_OF_PART = re.compile(r"[A-Za-z_]\w*\Z")
_LONGEST_RUN = 256  # members with one name up to the first dot; more are no single sample

P = TypeVar("P")
Parts = dict[str, P]


class Gathered(NamedTuple, Generic[P]):
    """The members of one sample by kind."""

    key: str
    parts: dict[str, P]


def split_name(name: str) -> tuple[str, str]:
    """Split into key and suffix as webdataset does: at the first dot of the last part, the suffix in lower case."""
    folder, slash, last = name.rpartition("/")
    key, _, suffix = last.partition(".")
    return f"{folder}{slash}{key}", suffix.lower()


class Gathering(Generic[P]):
    """Collect members in the order of the archive; a sample is yielded when its run of members ends.

    Args:
        left: receives a reason and a key for what does not become a sample.
        kinds: what a member is, by suffix.
        words: the kinds of which a sample needs one beside its image; empty: an image is enough.
        apart: join members of a sample that are not adjacent, at the end; what is incomplete is kept until then.
    """

    def __init__(
        self,
        left: Callable[[str, str], None],
        *,
        kinds: Mapping[str, str] = TRAINING_KINDS,
        words: Sequence[str] = ("text", "json"),
        apart: bool,
    ) -> None:
        self._left = left
        self._kinds = kinds
        self._words = frozenset(words)
        self._own_words = frozenset(kinds.values()) - {"image", "json"}
        self._pending: dict[str, Parts[P]] | None = {} if apart else None
        self._key: str | None = None
        self._prefix = "\0"
        self._plain: Parts[P] = {}
        self._dotted: dict[str, Parts[P]] = {}
        self._last = ""
        self._size = 0

    def kind(self, name: str) -> str | None:
        """Return what a member is; None if it is not part of a sample."""
        return None if is_metadata(name) else self._kinds.get(name[name.rfind(".") + 1 :].lower())

    def add(self, name: str, member: P, empty: bool = False) -> Sequence[Gathered[P]]:
        """Take a member; return the samples that end before it. An empty member is neither image nor words."""
        if not empty and name.startswith(self._prefix):  # nearly every member but the first of a sample
            kind = self._kinds.get(name[len(self._prefix) :])
            if kind is not None and kind not in self._plain:
                self._size += 1
                self._plain[kind] = member
                return ()
        slash = name.rfind("/") + 1
        if name.startswith(".", slash) or ((slash or "Pax" in name) and is_metadata(name)):
            self._left(METADATA, name)
            return ()
        dot = name.find(".", slash)
        key = name if dot < 0 else name[:dot]
        done: list[Gathered[P]] = []
        if key != self._key:
            done = self._close()
            self._key, self._prefix = key, f"{key}."
        if dot < 0:
            return done
        last = name.rfind(".")
        kind = self._kinds.get(name[last + 1 :].lower())
        if kind is None or empty:
            return done
        self._size += 1
        parts = self._plain if last == dot else self._parts_of_stem(name[:last], done)
        if kind in parts:
            self._left(DOUBLE, name)
        else:
            parts[kind] = member
        return done

    def _parts_of_stem(self, stem: str, done: list[Gathered[P]]) -> Parts[P]:
        if stem != self._last and self._dotted:
            done += self._close_stem(self._last)
            if self._size > _LONGEST_RUN:
                done += self._close()
        self._last = stem
        return self._dotted.setdefault(stem, {})

    def end(self) -> Sequence[Gathered[P]]:
        """Return the samples that end with the archive."""
        done = self._close()
        self._key, self._prefix = None, "\0"
        for key, parts in (self._pending or {}).items():
            self._left(self._lack(parts), key)
        if self._pending:
            self._pending = {}
        return done

    def _is_complete(self, parts: Parts[P]) -> bool:
        return "image" in parts and not (self._words and self._words.isdisjoint(parts))

    def _lack(self, parts: Parts[P]) -> str:
        return NO_IMAGE if "image" not in parts else NO_TEXT

    def _close_stem(self, stem: str) -> list[Gathered[P]]:
        """Return a dotted name that has an image and words of its own, whatever else its run holds."""
        parts = self._dotted.get(stem, {})
        if "image" not in parts or self._own_words.isdisjoint(parts):
            return []
        del self._dotted[stem]
        return [Gathered(stem, parts)]

    def _close(self) -> list[Gathered[P]]:
        """End a run of members; return its samples."""
        key, plain, dotted = self._key, self._plain, self._dotted
        if key is None:
            return []
        done = self._close_stem(self._last) if dotted else []
        is_other = not self._size
        self._plain, self._size = {}, 0
        if dotted:
            self._dotted, self._last = {}, ""
        used = False
        for stem, parts in dotted.items():
            is_name = _KIND_OF_PART.match(stem[len(key) + 1 :]) is None
            if is_name or ("image" not in plain and self._is_complete(parts)):
                used = True
                done += self._finished(stem, parts)
        if plain or (dotted and not used):
            done += self._finished(key, plain)
        elif is_other:
            self._left(OTHER, key)
        return done

    def _finished(self, key: str, parts: Parts[P]) -> list[Gathered[P]]:
        """Return a sample that is complete; keep or report one that is not."""
        if self._is_complete(parts):
            return [Gathered(key, parts)]
        if self._pending is None:
            self._left(self._lack(parts), key)
            return []
        whole = self._pending.setdefault(key, {})
        for kind, member in parts.items():
            whole.setdefault(kind, member)
        if not self._is_complete(whole):
            return []
        del self._pending[key]
        return [Gathered(key, whole)]
