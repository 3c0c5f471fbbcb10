"""Serve the little web over HTTP on loopback: one virtual host per folder, with the declared behaviours.

`NAME.localhost` is loopback by RFC 6761 section 6.3: browsers and curl resolve it by themselves.
"""

import asyncio
import contextlib
import errno
import gzip
import mimetypes
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pydantic
from aiohttp import web
from aiohttp.typedefs import Handler

from openwit.schemas.common.errors import DataError, StorageError
from openwit.workflows.demo.behaviours import Behaviour, Behaviours, HostRules
from openwit.workflows.demo.sites import FRONT_PAGES, PORT_TOKEN
from openwit.workflows.demo.web import check_complete

DATE = "Mon, 01 Jul 2024 00:00:00 GMT"
"""The Date of every response. Fixed, so that a crawl of the same web gives the same bytes."""

_TYPES = {".webp": "image/webp", ".bmp": "image/bmp", ".txt": "text/plain", ".gif": "image/gif", ".jpg": "image/jpeg"}
_DRIP_START = {
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
}
_DRIP_EVERY = 1.0  # seconds between two bytes


class LittleWeb:
    """Serves the sites in a folder."""

    def __init__(self, folder: Path, behaviours: Behaviours) -> None:
        """Args: the folder that `make_web` made, and how its hosts answer."""
        self._folder = folder
        self._hosts = behaviours.hosts

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request: the host's rules, then the path's behaviour, then the file."""
        name = request.host.partition(":")[0].removesuffix(".localhost")
        if name in ("localhost", "127.0.0.1"):
            return _index(request)
        rules = self._hosts.get(name)
        if rules is None:
            return _error(404, f"There is no site called {name}.")
        if request.method not in ("GET", "HEAD"):
            return _error(405, "This web can only be read.")
        behaviour = rules.paths.get(request.path)
        if behaviour is None:
            answer: web.StreamResponse = self._file(request, name, rules)
        else:
            answer = await self._behave(request, name, rules, behaviour)
        if not answer.prepared:
            answer.headers.update(rules.headers)
        return answer

    async def _behave(
        self, request: web.Request, name: str, rules: HostRules, behaviour: Behaviour
    ) -> web.StreamResponse:
        if behaviour.kind == "status":
            return _error(behaviour.status, "Not here.")
        if behaviour.kind == "redirect":
            location = urllib.parse.quote(_with_port(behaviour.location.encode(), request).decode(), safe=":/?&=%@")
            return web.Response(status=behaviour.status, headers={"Location": location})
        if behaviour.kind == "markup":
            page = b"<!DOCTYPE html><title>Not found</title><p>Sorry, this picture has moved."
            return web.Response(body=page, headers={"Content-Type": behaviour.content_type})
        if behaviour.kind == "drip":
            return await _drip(request, behaviour)
        answer = self._file(request, name, rules)
        if behaviour.kind == "type":
            answer.headers["Content-Type"] = behaviour.content_type
            return answer
        return await _cut(request, answer)

    def _file(self, request: web.Request, name: str, rules: HostRules) -> web.Response:
        """The file of a path. Small files of a warm disk cache: read at once, without a thread."""
        root = self._folder / name
        path = request.path + "index.html" if request.path.endswith("/") else request.path
        try:
            target = (root / path.lstrip("/")).resolve()
            if not target.is_relative_to(root.resolve()):
                return _error(404, "There is no such page.")
            body = target.read_bytes()
        except (OSError, ValueError):  # not there, a folder, or a name no file can have
            return _error(404, "There is no such page.")
        is_page = target.suffix in (".html", ".htm")
        headers = {"Content-Type": _content_type(target, rules), "Last-Modified": DATE}
        if is_page or target.suffix == ".txt":
            body = _with_port(body, request)
        if is_page and rules.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 6, mtime=0)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return web.Response(body=body, headers=headers)


def read_behaviours(folder: Path) -> Behaviours:
    """Read the behaviours of a finished web.

    Raises:
        DataError: the folder holds no finished web.
    """
    check_complete(folder)
    try:
        return Behaviours.model_validate_json((folder / "behaviours.json").read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise DataError(f"{folder / 'behaviours.json'} is damaged; make the web again with --fresh") from error


async def serve(folder: Path, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; call `ready` with the port once it listens. Port 0 uses a free one.

    Raises:
        StorageError: the port is taken or not allowed.
        DataError: the folder holds no finished web.
    """
    little_web = LittleWeb(folder, read_behaviours(folder))
    application = web.Application(middlewares=[_steady_headers], client_max_size=1024)
    application.router.add_route("*", "/{path:.*}", little_web.handle)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    try:
        bound = await _listen(runner, port)
        ready(bound)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> int:
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    try:
        await site.start()
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise StorageError(f"port {port} is in use; stop what listens there or choose another --port") from None
        raise StorageError(f"port {port} cannot be used ({error}); choose another --port") from None
    bound = int(runner.addresses[0][1])
    try:  # browsers try ::1 first; without it they fall back
        await web.TCPSite(runner, "::1", bound, backlog=1024).start()
    except OSError:
        print("no IPv6 loopback; serving on 127.0.0.1 only", file=sys.stderr)
    return bound


@web.middleware
async def _steady_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    answer = await handler(request)
    if not answer.prepared:
        _steady(answer)
    return answer


def _steady(answer: web.StreamResponse) -> None:
    answer.headers["Date"] = DATE
    answer.headers["Server"] = "little-web"


async def _drip(request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    """Send the start of a picture, then one byte per second; it ends, so that a client without a limit ends too."""
    answer = web.StreamResponse(headers={"Content-Type": behaviour.content_type})
    _steady(answer)
    await answer.prepare(request)
    await answer.write(_DRIP_START.get(behaviour.content_type, b"\0"))
    loop = asyncio.get_running_loop()
    end = loop.time() + behaviour.seconds
    # A client that has had enough is the expected end.
    with contextlib.suppress(ConnectionResetError):
        while loop.time() < end:
            await asyncio.sleep(min(_DRIP_EVERY, max(0.0, end - loop.time())))
            await answer.write(b"\0")
        await answer.write_eof()
    return answer


async def _cut(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Announce the whole file, send half of it and close the connection."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    answer = web.StreamResponse(
        headers={"Content-Type": whole.headers["Content-Type"], "Content-Length": str(len(body))}
    )
    _steady(answer)
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return answer


def _index(request: web.Request) -> web.Response:
    """Return the page of the bare `localhost`: a list of the sites, for a person with a browser."""
    port = request.host.partition(":")[2] or "80"
    links = "".join(f'<li><a href="http://{name}.localhost:{port}/">{name}.localhost</a></li>' for name in FRONT_PAGES)
    text = f"<!DOCTYPE html><html lang=en><title>The little web</title><h1>The little web</h1><ul>{links}</ul>"
    return web.Response(text=text, content_type="text/html")


def _error(status: int, sentence: str) -> web.Response:
    text = f"<!DOCTYPE html><html lang=en><title>{status}</title><p>{sentence}"
    return web.Response(status=status, text=text, content_type="text/html")


def _content_type(target: Path, rules: HostRules) -> str:
    kind = _TYPES.get(target.suffix.lower()) or mimetypes.guess_type(target.name)[0] or "application/octet-stream"
    if kind == "text/html" and rules.html_charset:
        return f"{kind}; charset={rules.html_charset}"
    return kind


def _with_port(body: bytes, request: web.Request) -> bytes:
    """Return the stored text with the token replaced by the port of the requested host."""
    port = request.host.partition(":")[2] or "80"
    return body.replace(PORT_TOKEN.encode(), port.encode()) if port.isdigit() else body
