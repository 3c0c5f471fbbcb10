"""A checkpoint's state on ranks that do not have it: each tensor is sent by rank 0 when it is asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openwit.training.engine.distributed import Group


class SentTree(Mapping[str, Any]):
    """Nested mappings of tensors and plain values, of which rank 0 has the tensors.

    All ranks must ask for the same tensors in the same order. Rank 0 alone holds them all, in the host's memory; the
    others one at a time.

    Args:
        group: all processes.
        outline: names and plain values, with `Hole` for tensors; the same on all ranks.
        tree: the tensors; None on all ranks but the first.
    """

    def __init__(self, group: Group, outline: Mapping[str, Any], tree: Mapping[str, Any] | None) -> None:
        self._group, self._outline, self._tree = group, outline, tree

    @classmethod
    def of(cls, group: Group, tree: Mapping[str, Any] | None) -> "SentTree":
        """Return rank 0's tree on all ranks, which must all call; others give None."""
        outline = group.broadcast_object(None if tree is None else _outline(tree))
        assert outline is not None
        return cls(group, outline, tree)

    def __len__(self) -> int:
        return len(self._outline)

    def __iter__(self) -> Iterator[str]:
        return iter(self._outline)

    def __contains__(self, name: object) -> bool:
        return name in self._outline

    def __getitem__(self, name: str) -> Any:
        part = self._outline[name]
        own = None if self._tree is None else self._tree[name]
        if isinstance(part, Mapping):
            return SentTree(self._group, part, own)
        return self._filled(part, own)

    def _filled(self, part: Any, own: Any) -> Any:
        if isinstance(part, Hole):
            tensor = torch.empty(part.shape, dtype=part.dtype) if own is None else own.cpu().contiguous()
            self._group.broadcast(tensor)
            return tensor
        if isinstance(part, list):
            return [self._filled(each, None if own is None else own[number]) for number, each in enumerate(part)]
        return plain(SentTree(self._group, part, own)) if isinstance(part, Mapping) else part


@dataclass(frozen=True)
class Hole:
    """Placeholder of a tensor in an outline."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def plain(tree: Any) -> Any:
    """Return nested mappings as dicts, all tensors included."""
    return {name: plain(tree[name]) for name in tree} if isinstance(tree, Mapping) else tree


def _outline(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return Hole(tuple(tree.shape), tree.dtype)
    if isinstance(tree, Mapping):
        return {name: _outline(part) for name, part in tree.items()}
    return [_outline(part) for part in tree] if isinstance(tree, list) else tree
