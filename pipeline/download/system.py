"""Prepare the system for the downloader: CA certificates, and the limit on open files."""

import ssl
from pathlib import Path

import certifi

from openwit.schemas.common.errors import RecipeError


def ca_file(chosen: str | None) -> str:
    """Return the file of certificates to trust: the chosen one, the system's, or certifi's.

    Raises:
        RecipeError: the chosen file does not exist.
    """
    if chosen is None:
        system = ssl.get_default_verify_paths().cafile
        return system if system is not None else certifi.where()
    if not Path(chosen).is_file():
        raise RecipeError(f"ca_file {chosen!r} does not exist: name a file of certificates in PEM form")
    return chosen


def require_descriptors(concurrency: int) -> None:
    """Raise the soft limit on open files if needed: two per transfer, one per idle connection.

    Raises:
        RecipeError: the hard limit is too low.
    """
    import resource  # not on Windows

    needed = 3 * concurrency + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise RecipeError(
                f"concurrency {concurrency} needs {needed} open files but the system allows {hard}: "
                "lower fetch concurrency or raise `ulimit -n`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
