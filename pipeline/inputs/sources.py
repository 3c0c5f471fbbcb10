"""List the files of each source: their addresses, places and published checksums."""

import bisect
import datetime
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from openwit.pipeline.inputs.client import Client, MissingError
from openwit.pipeline.inputs.remote_file import Checksum, Record, RemoteFile, name_of
from openwit.pipeline.inputs.settings import (
    CommonCrawlInput,
    FilesInput,
    PageviewsInput,
    Wanted,
    WikipediaInput,
    WordNetInput,
)
from openwit.pipeline.inputs.wordnet import is_unpacked, unpack_wordnet
from openwit.schemas.common.errors import DataError, NetworkError, RecipeError
from openwit.schemas.common.wording import counted

WORDNET_ARCHIVE = "WordNet-3.0.tar.bz2"
# As Homebrew, Nix, Arch and Fedora pin it.
WORDNET_SHA256 = "6c492d0c7b4a40e7674d088191d3aa11f373bb1da60762e098b8ee2dda96ef22"
_LIST_BYTES = 64 << 20
_NEAR = 2


@dataclass(frozen=True)
class Listing:
    """The files of a source.

    Attributes:
        files: in the order in which they are fetched.
        finish: called when they are all there; returns what it did, for a message.
        is_done: nothing is to be fetched, whatever `files` holds.
    """

    files: list[RemoteFile]
    finish: Callable[[], str] | None = None
    is_done: bool = False


def list_files(client: Client, wanted: Wanted) -> Listing:
    """List the files of a source.

    Raises:
        DataError: there is no such crawl, dump or file.
        RecipeError: the settings do not fit what is published.
        NetworkError: the server cannot be reached, or refuses.
    """
    listers: dict[str, Callable[[Client, Any], Listing]] = {
        "commoncrawl": _commoncrawl,
        "wikipedia": _wikipedia,
        "pageviews": _pageviews,
        "wordnet": _wordnet,
        "files": _files,
    }
    return listers[wanted.source](client, wanted.settings)


def _commoncrawl(client: Client, settings: CommonCrawlInput) -> Listing:
    folder = Path(settings.to)
    url = _join(settings.base, f"crawl-data/{settings.crawl}/{settings.kind}.paths.gz")
    listed = RemoteFile(url, folder / f"{settings.crawl}.{settings.kind}.paths.gz")
    if listed.target.exists():
        packed = listed.target.read_bytes()  # a crawl that is published does not change
    else:
        try:
            packed = client.read(url, _LIST_BYTES)
        except MissingError:
            raise DataError(
                f"there is no crawl {settings.crawl} at {settings.base}{_near(client, settings)}"
            ) from None
    paths = sorted(set(_lines(packed, url)), key=lambda path: (xxhash.xxh3_64_intdigest(path.encode()), path))
    if settings.files > len(paths):
        raise RecipeError(
            f"commoncrawl.files: {settings.files:,}, but the crawl has {len(paths):,} {settings.kind} files"
        )
    chosen = [_join(settings.base, path) for path in paths[: settings.files]]
    return Listing([listed, *(RemoteFile(each, folder / name_of(each)) for each in chosen)])


def _near(client: Client, settings: CommonCrawlInput) -> str:
    """Return the names of crawls near to one that there is not, for the end of a sentence."""
    try:
        entries = json.loads(client.read(settings.index, _LIST_BYTES))
        known = [entry["id"] for entry in entries if isinstance(entry["id"], str)]
    except (DataError, NetworkError, RecipeError, ValueError, KeyError, TypeError):
        return f" (the list of crawls, {settings.index}, cannot be read)"
    known = sorted(set(known))
    at = bisect.bisect(known, settings.crawl)
    near = known[max(0, at - _NEAR) : at + _NEAR]
    return f"; near to it there are {', '.join(near)}" if near else ""


def _wikipedia(client: Client, settings: WikipediaInput) -> Listing:
    folder = Path(settings.to)
    wiki = f"{settings.language.replace('-', '_')}wiki"
    end = "pages-articles-multistream.xml.bz2"
    whole = folder / f"{wiki}-{settings.date}-{end}"
    if settings.parts is None and whole.exists() and Record(folder).size(whole.name) == whole.stat().st_size:
        return Listing([RemoteFile(_join(settings.base, f"{wiki}/{settings.date}/{whole.name}"), whole)], is_done=True)
    sums_url = _join(settings.base, f"{wiki}/{settings.date}/{wiki}-{settings.date}-sha1sums.txt")
    try:
        sums = _sums(client.read(sums_url, _LIST_BYTES), sums_url)
    except MissingError:
        raise DataError(
            f"there is no dump {wiki} {settings.date} at {settings.base}: take a language and a date that its index "
            "names, or date: latest"
        ) from None
    # `latest` names the files of the last dump by its date: fetched from there, they are of one dump.
    part = re.compile(rf"{wiki}-(\d{{8}})-pages-articles-multistream(\d+)\.xml-p\d+p\d+\.bz2")
    if settings.parts is None:
        names = [name for name in sums if re.fullmatch(rf"{wiki}-\d{{8}}-{re.escape(end)}", name)][:1]
    else:
        numbered = sorted((int(found[2]), name) for name in sums if (found := part.fullmatch(name)))
        names = [name for _, name in numbered[: settings.parts]]
        if names and len(names) < settings.parts:
            raise RecipeError(f"wikipedia.parts: {settings.parts}, but the dump has {counted(len(names), 'part')}")
    if not names:
        what = "is not published in parts (leave out `parts`)" if settings.parts else "has no file of articles yet"
        raise DataError(f"the dump {wiki} {settings.date} at {settings.base} {what}")
    return Listing([_dump_file(settings, wiki, name, sums[name], folder) for name in names])


def _dump_file(settings: WikipediaInput, wiki: str, name: str, sha1: str, folder: Path) -> RemoteFile:
    date = name.removeprefix(f"{wiki}-")[:8]
    # Kept under the name that was asked for: a later dump does not come beside it into the recipe's pattern.
    target = folder / name.replace(date, settings.date, 1)
    return RemoteFile(_join(settings.base, f"{wiki}/{date}/{name}"), target, Checksum("sha1", sha1))


def _pageviews(client: Client, settings: PageviewsInput) -> Listing:
    folder = Path(settings.to)
    first = datetime.datetime.fromisoformat(settings.day)
    times = [first + datetime.timedelta(hours=n) for n in range(settings.hours)]
    files = []
    for month, hours in _by_month(times).items():
        place = _join(settings.base, f"other/pageviews/{month[:4]}/{month}/")
        names = [f"pageviews-{time:%Y%m%d-%H}0000.gz" for time in hours]
        is_there = all((folder / name).exists() for name in names)
        sums = {} if is_there else _published_md5(client, place)
        for name in names:
            checksum = Checksum("md5", sums[name]) if name in sums else None
            files.append(RemoteFile(_join(place, name), folder / name, checksum))
    return Listing(files)


def _published_md5(client: Client, place: str) -> dict[str, str]:
    """Return the checksums of a month, where they are published."""
    try:
        return _sums(client.read(_join(place, "md5sums.txt"), _LIST_BYTES), place)
    except MissingError:
        return {}


def _by_month(times: list[datetime.datetime]) -> dict[str, list[datetime.datetime]]:
    found: dict[str, list[datetime.datetime]] = {}
    for time in times:
        found.setdefault(f"{time:%Y-%m}", []).append(time)
    return found


def _wordnet(client: Client, settings: WordNetInput) -> Listing:  # noqa: ARG001
    folder = Path(settings.to)
    archive = RemoteFile(
        _join(settings.base, WORDNET_ARCHIVE), folder / WORDNET_ARCHIVE, Checksum("sha256", WORDNET_SHA256)
    )
    target = folder / "dict"
    if is_unpacked(target):
        return Listing([archive], is_done=True)
    return Listing([archive], finish=lambda: unpack_wordnet(archive.target, target))


def _files(client: Client, settings: FilesInput) -> Listing:  # noqa: ARG001
    folder = Path(settings.to)
    files: dict[str, RemoteFile] = {}
    for url in dict.fromkeys(settings.urls):
        name = name_of(url)
        if name in files:
            raise RecipeError(
                f"files.urls: {files[name].url} and {url} would both be {name}: fetch them to two folders"
            )
        digest = settings.sha256.get(name)
        files[name] = RemoteFile(url, folder / name, Checksum("sha256", digest) if digest else None)
    unknown = next((name for name in settings.sha256 if name not in files), None)
    if unknown is not None:
        raise RecipeError(f"files.sha256 names {unknown!r}, which is none of files.urls")
    return Listing(list(files.values()))


def _sums(data: bytes, where: str) -> dict[str, str]:
    """Return name to checksum of a file as md5sum and sha1sum write it."""
    found = {}
    for line in data.decode(errors="replace").splitlines():
        digest, _, name = line.strip().partition(" ")
        if re.fullmatch("[0-9a-fA-F]{32,64}", digest):
            found[name.strip().lstrip("*").rpartition("/")[2]] = digest
    if not found:
        raise DataError(f"{where} holds no checksums")
    return found


def _lines(packed: bytes, where: str) -> list[str]:
    """Return the paths of a list that is compressed with gzip."""
    try:
        unpacker = zlib.decompressobj(31)
        text = unpacker.decompress(packed, _LIST_BYTES).decode()
    except (zlib.error, ValueError) as error:
        raise DataError(f"{where} is no list of paths compressed with gzip ({error})") from None
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines or not unpacker.eof:
        raise DataError(f"{where} is no whole list of paths")
    strange = next((line for line in lines if ".." in line.split("/") or "://" in line or line.startswith("/")), None)
    if strange is not None:
        raise DataError(f"{where} lists {strange[:100]!r}, which is no path of a crawl")
    return lines


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{path}"
