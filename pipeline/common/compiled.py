"""Functions compiled by numba: one way to declare them."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiles at first use, without the interpreter's lock; kept on disk for the next process where there is room.

    numba looks at one file only to see whether what it kept is stale: a compiled function and those it calls belong
    in one module.
    """
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        made: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written: every process compiles for itself.
        made = numba.njit(**options)(function)
    return made
