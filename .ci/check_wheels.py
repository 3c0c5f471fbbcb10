"""Says whether pip can install us without a compiler on every Python and platform that we name.

Takes the dependencies and extras of pyproject.toml and what those need in turn (as the packages installed here say),
lists each one's files on the index that pip is configured with, and looks for a wheel, or for a source distribution of
Python alone. What an extra needs is known only where it is installed; where not, its own packages are checked and
theirs are not, and a line says so.

    python .ci/check_wheels.py [--extra build --extra train] [--pyproject pyproject.toml]

Exit code 1 where something lacks that `EXCEPTIONS` does not excuse, or where an excuse is no longer needed.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# The oldest systems that count: glibc 2.28 (2018) and macOS 14 (2023).
GLIBC, MACOS = 28, (14, 0)
WORKERS = 4
# Wheels of other interpreters and systems, most of the files of most packages: reading each would take time.
_ELSEWHERE = re.compile(
    r"-(?:pp\d+|cp2\d|cp3(?:\d|10)-cp3\w*)-.*\.whl$"
    r"|(?:win32|win_\w+|musllinux_\w+|i686|ppc64le|s390x|armv7l|riscv64|pyodide\w*|ios\w*|android\w*)\.whl$"
)
WHEEL, PURE, SOURCE, MISSING, EXCUSED, UNNEEDED = "wheel", "any", "source", "MISSING", "excused", ""


class Excuse(NamedTuple):
    """Where a package may lack, and why that is borne."""

    package: str
    platforms: tuple[str, ...]
    pythons: tuple[str, ...]
    reason: str


EXCEPTIONS = (
    Excuse(
        "gensim",
        ("Linux x86-64", "Linux arm64", "macOS arm64"),
        ("3.14",),
        "brings the Wikipedia piece of the demo only",
    ),
)


class Target(NamedTuple):
    """A Python on a platform."""

    python: str
    platform: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"

    @cache  # noqa: B019 -- twelve targets, for as long as the script runs
    def tags(self) -> frozenset[Tag]:
        """Those of every wheel that installs here."""
        version = tuple(map(int, self.python.split(".")))
        platforms = list(PLATFORMS[self.platform].tags)
        interpreter = "cp" + self.python.replace(".", "")
        return frozenset(
            (*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms))
        )

    def environment(self, extra: str) -> dict[str, str]:
        """What markers are answered with."""
        full = f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "platform_python_implementation": "CPython",
            "python_full_version": full,
            "python_version": self.python,
            "extra": extra,
            **PLATFORMS[self.platform].markers,
        }


class Platform(NamedTuple):
    """Tags of its wheels, and what markers see of it."""

    tags: tuple[str, ...]
    markers: dict[str, str]


def _linux(machine: str) -> Platform:
    named = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    tags += [f"{name}_{machine}" for name in named.values()]
    markers = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    return Platform((*tags, f"linux_{machine}"), markers | {"platform_release": "", "platform_version": ""})


PLATFORMS = {
    "Linux x86-64": _linux("x86_64"),
    "Linux arm64": _linux("aarch64"),
    "macOS arm64": Platform(
        tuple(mac_platforms(MACOS, "arm64")),
        {
            "os_name": "posix",
            "sys_platform": "darwin",
            "platform_system": "Darwin",
            "platform_machine": "arm64",
            "platform_release": "",
            "platform_version": "",
        },
    ),
}
TARGETS = tuple(Target(python, platform) for platform in PLATFORMS for python in PYTHONS)


class File(NamedTuple):
    """A file of the index."""

    version: Version
    tags: frozenset[Tag]  # none: a source distribution
    requires_python: SpecifierSet


@dataclass
class Need:
    """What of a package is asked for on one target."""

    versions: SpecifierSet = field(default_factory=SpecifierSet)
    extras: set[str] = field(default_factory=set)


def main() -> int:
    """Checks, prints the table, and returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    arguments.add_argument("--extra", action="append", help="check the base and these extras alone; repeatable")
    options = arguments.parse_args()
    project = tomllib.loads(options.pyproject.read_text(encoding="utf-8"))["project"]
    roots = list(_roots(project, options.extra))
    unknown: set[str] = set()
    needs = {target: _closure(roots, project, target, unknown) for target in TARGETS}
    names = sorted({name for found in needs.values() for name in found})
    with ThreadPoolExecutor(WORKERS) as pool:
        files = dict(zip(names, pool.map(_files, names), strict=True))
    cells = {name: [_cell(name, files[name], needs[target].get(name), target) for target in TARGETS] for name in names}
    _settle_sources(cells, files, needs)
    _print_table(cells)
    if unknown:
        print(f"\nNot installed here, so that what they need was not checked: {', '.join(sorted(unknown))}.")
    return _verdict(cells)


def _roots(project: dict[str, object], extras: list[str] | None) -> Iterator[Requirement]:
    dependencies, optional = project["dependencies"], project.get("optional-dependencies", {})
    assert isinstance(dependencies, list)
    assert isinstance(optional, dict)
    for wanted in extras or ():
        if wanted not in optional:
            raise SystemExit(f"no extra {wanted!r}; there are {', '.join(optional)}")
    for name, lines in {"": dependencies, **optional}.items():
        if not name or extras is None or name in extras:
            yield from map(Requirement, lines)


def _closure(
    roots: Iterable[Requirement], project: dict[str, object], target: Target, unknown: set[str]
) -> dict[str, Need]:
    """Every package needed on a target, and which versions all who need it take."""
    own = canonicalize_name(str(project["name"]))
    optional = project.get("optional-dependencies", {})
    assert isinstance(optional, dict)
    needs: dict[str, Need] = {}
    waiting = [(requirement, "") for requirement in roots]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate(target.environment(extra)):
            continue
        name = canonicalize_name(requirement.name)
        if name == own:  # an extra that takes in another
            fresh = requirement.extras - {asked for owner, asked in seen if owner == own}
            seen |= {(own, asked) for asked in fresh}
            waiting += [(Requirement(line), "") for asked in fresh for line in optional.get(asked, ())]
            continue
        need = needs.setdefault(name, Need())
        need.versions &= requirement.specifier
        for asked in ("", *requirement.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                waiting += [(Requirement(line), asked) for line in _requires(name, unknown)]
    return needs


def _requires(name: str, unknown: set[str]) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        unknown.add(name)
        return []


def _files(name: str) -> list[File]:
    """The wheels and source distributions of a package, as pip's log of its index pages names them."""
    command = [sys.executable, "-m", "pip", "index", "versions", "-vvv", "--ignore-requires-python", name]
    log = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: dict[str, File] = {}
    for line in log.splitlines():
        if "yanked" in line:
            continue
        match = re.search(r"/([^/\s#]+\.(?:whl|tar\.gz|zip))", line)
        if match is None or _ELSEWHERE.search(match[1]):
            continue
        if (file := _file(match[1], line)) is not None:
            found[match[1]] = file
    if not found:
        raise SystemExit(f"pip names no file of {name}; see: {' '.join(command)}")
    return list(found.values())


def _file(name: str, line: str) -> File | None:
    stated = re.search(r"\(requires-python:([^)]*)\)", line)
    try:
        requires = _specifiers(stated[1] if stated is not None else "")
        if name.endswith(".whl"):
            _, version, _, tags = parse_wheel_filename(name)
            return File(version, tags, requires)
        return File(parse_sdist_filename(name)[1], frozenset(), requires)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidSpecifier):
        return None  # names of old times, which pip takes no more


@cache
def _specifiers(text: str) -> SpecifierSet:
    return SpecifierSet(text)


def _fitting(files: Iterable[File], need: Need, target: Target) -> Iterator[File]:
    version, taken = f"{target.python}.0", cache(need.versions.contains)
    for file in files:
        if taken(file.version) and _contains(file.requires_python, version):
            yield file


@cache
def _contains(versions: SpecifierSet, version: str) -> bool:
    return versions.contains(version)


def _cell(name: str, files: list[File], need: Need | None, target: Target) -> str:
    if need is None:
        return UNNEEDED
    tags = target.tags()
    fitting = list(_fitting(files, need, target))
    wheels = [file for file in fitting if file.tags & tags]
    if wheels:
        newest = max(wheels, key=lambda file: file.version)
        return PURE if any(tag.platform == "any" for tag in newest.tags) else WHEEL
    excused = any(
        e.package == name and target.platform in e.platforms and target.python in e.pythons for e in EXCEPTIONS
    )
    return EXCUSED if excused else SOURCE if any(not file.tags for file in fitting) else MISSING


def _settle_sources(
    cells: dict[str, list[str]], files: dict[str, list[File]], needs: dict[Target, dict[str, Need]]
) -> None:
    """Builds the source distributions that stand in for wheels: those that are not Python alone are no help."""
    for name, row in cells.items():
        versions = {
            max(file.version for file in _fitting(files[name], needs[target][name], target) if not file.tags)
            for target, cell in zip(TARGETS, row, strict=True)
            if cell == SOURCE
        }
        if not all(map(partial(_is_pure, name), versions)):
            cells[name] = [MISSING if cell == SOURCE else cell for cell in row]


def _is_pure(name: str, version: Version) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-binary", name, "-w", folder]
        done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, check=False)
        return done.returncode == 0 and any(Path(folder).glob("*-none-any.whl"))


def _print_table(cells: dict[str, list[str]]) -> None:
    width = max(map(len, cells))
    column = max(len(MISSING), *map(len, PYTHONS)) + 1
    heads = "".join(f"{platform:{column * len(PYTHONS)}}" for platform in PLATFORMS)
    print(f"{'':{width}}  {heads}")
    print(f"{'':{width}}  {''.join(f'{target.python:{column}}' for target in TARGETS)}")
    for name, row in cells.items():
        print(f"{name:{width}}  {''.join(f'{cell:{column}}' for cell in row)}".rstrip())


def _verdict(cells: dict[str, list[str]]) -> int:
    lacking = [
        f"{name}: {target}"
        for name, row in cells.items()
        for target, cell in zip(TARGETS, row, strict=True)
        if cell == MISSING
    ]
    idle = [
        f"{excuse.package}: its excuse ({excuse.reason}) is no longer needed"
        for excuse in EXCEPTIONS
        if EXCUSED not in cells.get(excuse.package, [])
    ]
    print()
    for excuse in EXCEPTIONS:
        print(
            f"excused: {excuse.package} on {', '.join(excuse.platforms)}, {', '.join(excuse.pythons)}: {excuse.reason}"
        )
    for line in lacking:
        print(f"no wheel, and no source distribution of Python alone: {line}")
    for line in idle:
        print(line)
    if lacking or idle:
        return 1
    print(f"{len(cells)} packages install without a compiler on each of {len(TARGETS)} targets.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
