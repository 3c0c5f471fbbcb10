"""Download many URLs concurrently with libcurl's multi interface, with a typed result for each.

Every URL gives exactly one result, in the order of completion. Nothing waits forever: lookups, connections, slow
bodies, retries and redirects all have limits, and a host that only fails is given up.
"""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from openwit.pipeline.download import robots
from openwit.pipeline.download.address import AddressPolicy, port_refusal
from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.blocklist import Blocklist
from openwit.pipeline.download.host_limits import HostLimits
from openwit.pipeline.download.host_queues import HostQueues
from openwit.pipeline.download.multi import Multi
from openwit.pipeline.download.refusals import Refusals
from openwit.pipeline.download.resolve import Resolution, Resolver
from openwit.pipeline.download.settings import DownloadSettings
from openwit.pipeline.download.status import HOST_FAILURES, NOT_REACHED, OVERLOADED, RETRY_NOW, Download, FetchStatus
from openwit.pipeline.download.system import ca_file, require_descriptors
from openwit.pipeline.download.target import BadUrlError, Target, UnsupportedSchemeError, parse_target, redirect_target
from openwit.pipeline.download.transfer import Answer, Transfer, TransferOptions

__all__ = ["Download", "DownloadSettings", "Downloader", "FetchStatus"]

_SWEEP_S = 0.25
_MAX_FAILING_HOSTS = 100_000
_DUE_FACTOR = 2
_UNAVAILABLE = 503
_MAX_REFUSALS = 5
# After this many stalls in a row a host's transfers are called stalled after a share of the time.
_IMPATIENT_AFTER, _IMPATIENT_SHARE = 4, 0.25
_STALLS = frozenset({FetchStatus.STALLED, FetchStatus.TIMEOUT})


@dataclass(slots=True)
class _Job:
    """A URL or a robots.txt to download. `robots_of` is the origin that waits for a robots.txt, None for a URL."""

    url: str
    target: Target
    robots_of: str | None = None
    redirects: int = 0
    attempts: int = 0
    refusals: int = 0  # of the attempts, those that cost no retry
    spent_s: float = 0.0  # of this attempt
    seconds: float = 0.0  # of all attempts


@dataclass(slots=True)
class _Active:
    """A running transfer, and the marks that its limits are measured from."""

    job: _Job
    transfer: Transfer
    started: float
    mark: float
    mark_bytes: int = 0


class Downloader:
    """Download URLs. A context manager; robots rules, addresses and connections are kept between calls.

    Args:
        settings: see there.
        blocklist: domains that are never contacted, not even after a redirect.

    Raises:
        RecipeError: the system limits open files below what `concurrency` needs, or `ca_file` does not exist.
    """

    def __init__(self, settings: DownloadSettings, blocklist: Blocklist | None = None) -> None:
        self.settings = settings
        self._blocklist = blocklist
        require_descriptors(settings.concurrency)
        self._policy = AddressPolicy(settings.allow_networks)
        self._options = TransferOptions(
            user_agent=settings.user_agent,
            agent_token=settings.agent_token,
            connect_timeout_s=settings.connect_timeout_s,
            reuse_connections=settings.reuse_connections,
            opt_outs=settings.opt_outs,
            ca_file=ca_file(settings.ca_file),
        )
        self._multi = Multi(settings.concurrency)
        self._resolver = Resolver(settings.resolver_threads, settings.dns_timeout_s, self._multi.wake)
        self._robots = robots.RobotsCache()
        self._limits = HostLimits(settings.per_host)
        self._failures: dict[str, int] = {}
        self._stalls: dict[str, int] = {}  # of the failures
        self._refusals = Refusals(
            first_s=settings.backoff_s, longest_s=settings.max_backoff_s, patience_s=settings.max_refusal_s
        )
        self._idle: list[Transfer] = []
        self._active: dict[Any, _Active] = {}
        self._queues: HostQueues[_Job] = HostQueues(self._limits.of)
        self._delayed: list[tuple[float, int, _Job]] = []
        self._sequence = itertools.count()
        self._done: deque[Download] = deque()
        self._open_jobs = 0
        self._backlog = Backlog()
        self._paused_s = 0.0
        self._source_waits = False
        self._running = False
        self._next_sweep = 0.0

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Abort running transfers and close all connections."""
        self._abandon()
        for transfer in self._idle:
            transfer.close()
        self._idle.clear()
        self._resolver.close()
        self._multi.close()

    def download(self, urls: Iterable[str | None], backlog: Backlog | None = None) -> Iterator[Download]:
        """Yield one `Download` per URL, in the order of completion.

        At most `lookahead` URLs are read ahead. A source that has none at the moment yields None: it is called again
        after the next event, which `backlog.wake` is too. All transfers pause while the caller handles a result; this
        time does not count against any limit here, but servers have limits too. A caller that works on the bodies
        elsewhere counts them in a `backlog` and comes back at once: they take the places of new transfers.
        """
        self._backlog = backlog if backlog is not None else Backlog()
        self._backlog.on_done(self._multi.wake)
        if self._running:
            raise RuntimeError("this Downloader is already downloading: use one per concurrent iteration")
        self._running = True
        source = iter(urls)
        try:
            more = True
            while more or self._open_jobs or self._done:
                more = more and self._admit(source)
                self._start_ready()
                if not self._done:
                    self._step()
                while self._done:
                    before = time.monotonic()
                    yield self._done.popleft()
                    self._paused_s += time.monotonic() - before
        finally:
            self._abandon()
            self._running = False

    def _now(self) -> float:
        """Return seconds on a clock that is paused while the caller handles a result."""
        return time.monotonic() - self._paused_s

    def _admit(self, source: Iterator[str | None]) -> bool:
        """Read URLs up to the limit; return whether there may be more."""
        self._source_waits = False
        while self._open_jobs < self.settings.lookahead and len(self._done) < self.settings.lookahead:
            try:
                url = next(source)
            except StopIteration:
                return False
            if url is None:
                self._source_waits = True
                return True
            try:
                target = parse_target(url)
            except UnsupportedSchemeError as error:
                self._done.append(Download(url, FetchStatus.UNSUPPORTED_SCHEME, detail=str(error)))
                continue
            except BadUrlError as error:
                self._done.append(Download(url, FetchStatus.BAD_URL, detail=str(error)))
                continue
            self._open_jobs += 1
            self._queues.push(target.host, _Job(url, target))
        return True

    def _start_ready(self) -> None:
        now = self._now()
        while self._delayed and self._delayed[0][0] <= now:
            job = heapq.heappop(self._delayed)[2]
            self._queues.push(job.target.host, job, urgent=job.robots_of is not None, front=True, due=True)
        concurrency = self.settings.concurrency
        while (running := len(self._active)) < concurrency:
            # What is due starts although bodies are piling up, within limits: a host was promised the time.
            held = running + len(self._backlog)
            if held >= _DUE_FACTOR * concurrency:
                self._backlog.awaited = True
                return
            due_only = held >= concurrency
            turn = self._queues.next(now, due_only=due_only)
            if turn is None:
                self._backlog.awaited = due_only or not running
                return
            self._consider(turn[1], now)
            self._queues.tidy(turn[0], now)

    def _consider(self, job: _Job, now: float) -> None:
        """Start a job, put it back until its robots.txt or addresses are known, or end it."""
        target = job.target
        if self._failures.get(target.host, 0) >= self.settings.host_failures:
            self._end(job, Answer(FetchStatus.HOST_UNREACHABLE, detail=f"{target.host} failed too often"))
            return
        given_up = self._refusals.given_up(target.host)
        if given_up is not None and job.robots_of is None:
            self._end(job, Answer(given_up, detail=f"{target.host} refused requests for too long"))
            return
        blocked = self._blocklist.match(target.host) if self._blocklist is not None else None
        if blocked is not None:
            self._end(job, Answer(FetchStatus.BLOCKED_DOMAIN, detail=blocked))
            return
        refusal = port_refusal(target.port)
        if refusal is not None:
            self._end(job, Answer(FetchStatus.BLOCKED_ADDRESS, detail=refusal))
            return
        delay = 0.0
        if self.settings.robots and job.robots_of is None:
            rules = self._robots.get(target.origin, now)
            if rules is None:
                self._fetch_robots(job)
                return
            verdict = rules.verdict(target)
            if verdict is not robots.Verdict.ALLOWED:
                self._end(job, _refused_by_robots(verdict, rules))
                return
            delay = min(rules.crawl_delay_s, self.settings.max_crawl_delay_s)
        addresses: tuple[str, ...] = ()
        if target.needs_lookup:
            resolution = self._resolver.get(target.host, now)
            if resolution is None:
                self._queues.push(target.host, job, urgent=job.robots_of is not None, front=True)
                self._queues.stop(target.host)
                self._resolver.ask(target.host, now)
                return
            if not resolution.addresses:
                self._unresolved(job, resolution)
                return
            addresses = tuple(a for a in resolution.addresses if self._policy.allows(a))
            if not addresses:
                reason = self._policy.refusal(resolution.addresses[0]) or ""
                self._end(job, Answer(FetchStatus.BLOCKED_ADDRESS, detail=reason))
                return
        interval_s = max(self.settings.host_interval_s, delay, self._refusals.interval_s(target.host))
        self._queues.started(target.host, now, interval_s=interval_s)
        self._start(job, addresses, now)

    def _fetch_robots(self, job: _Job) -> None:
        target = job.target
        self._queues.push(target.host, job, front=True)
        self._queues.hold(target.host)
        wanted = target._replace(url=target.robots_url)
        self._open_jobs += 1
        self._queues.push(target.host, _Job(wanted.url, wanted, robots_of=target.origin), urgent=True)

    def _start(self, job: _Job, addresses: tuple[str, ...], now: float) -> None:
        transfer = self._idle.pop() if self._idle else Transfer(self._options, self._policy)
        is_robots = job.robots_of is not None
        cap = robots.MAX_ROBOTS_BYTES if is_robots else self.settings.max_bytes
        if job.redirects == 0:
            job.attempts += 1
        most = max(1, self.settings.retries + 2 - (job.attempts - job.refusals))
        transfer.begin(job.target, addresses, max_bytes=cap, truncate=is_robots, requests=most)
        self._active[transfer.handle] = _Active(job, transfer, now, now)
        self._multi.add(transfer.handle)

    def _step(self) -> None:
        """Wait for events and handle them."""
        now = self._now()
        limit = now + (_SWEEP_S if self._open_jobs or self._source_waits else 0.0)
        due = self._queues.next_due()
        limit = min(limit, due if due is not None else limit, self._delayed[0][0] if self._delayed else limit)
        for handle, code, message in self._multi.wait(limit - now):
            active = self._active.get(handle)
            if active is not None:
                self._finish(active, active.transfer.answer(code, message))
        now = self._now()
        for host, resolution in self._resolver.collect(now):
            self._on_resolved(host, resolution)
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_S
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Abort transfers that are past their deadline or too slow."""
        settings = self.settings
        for active in list(self._active.values()):
            if active.job.spent_s + now - active.started >= settings.timeout_s:
                detail = f"not finished in {settings.timeout_s:g} s"
                self._break_off(active, FetchStatus.TIMEOUT, detail)
            elif now - active.mark >= (stall_s := self._stall_s(active.job.target.host)):
                slow = active.transfer.received - active.mark_bytes < settings.stall_bytes_per_s * stall_s
                if slow and active.transfer.connected():
                    detail = f"under {settings.stall_bytes_per_s} bytes/s for {stall_s:g} s"
                    self._break_off(active, FetchStatus.STALLED, detail)
                else:
                    active.mark, active.mark_bytes = now, active.transfer.received

    def _stall_s(self, host: str) -> float:
        """Return the time over which the speed of a host's transfers is judged."""
        impatient = bool(self._stalls) and self._stalls.get(host, 0) >= _IMPATIENT_AFTER
        return self.settings.stall_s * (_IMPATIENT_SHARE if impatient else 1.0)

    def _break_off(self, active: _Active, status: FetchStatus, detail: str) -> None:
        answer = active.transfer.answer(0, "")
        self._finish(active, Answer(status, answer.http_status, content_type=answer.content_type, detail=detail))

    def _finish(self, active: _Active, answer: Answer) -> None:
        """Decide what happens to the job of a transfer that ended: redirect, retry or end."""
        job, now = active.job, self._now()
        self._multi.remove(active.transfer.handle)
        del self._active[active.transfer.handle]
        self._idle.append(active.transfer)
        self._adapt(active, answer, now)
        self._queues.finished(job.target.host, now)
        job.attempts += max(0, active.transfer.requests - 1)
        job.spent_s += now - active.started
        job.seconds += now - active.started
        if self._failures and answer.status not in HOST_FAILURES:
            self._failures.pop(job.target.host, None)
            self._stalls.pop(job.target.host, None)
        if answer.location is not None:
            self._follow(job, answer)
        elif answer.status is FetchStatus.SUCCESS:
            self._end(job, answer)
        else:
            self._settle(job, answer)

    def _adapt(self, active: _Active, answer: Answer, now: float) -> None:
        """Give the host of a transfer that ended more or fewer transfers at once."""
        host = active.job.target.host
        refused = answer.status is FetchStatus.HTTP_RATE_LIMITED or answer.http_status == _UNAVAILABLE
        if refused or answer.status in OVERLOADED:
            self._limits.overloaded(host, now, started=active.started, refused=refused)
        elif answer.http_status is not None:
            self._limits.answered(host, active.transfer.latency_s(), active=self._queues.active(host))
        if _asks_to_wait(answer):
            answer.retry_after_s = self._refusals.refused(
                host, now, started=active.started, status=answer.status, retry_after_s=answer.retry_after_s
            )
        elif answer.http_status is not None:
            self._refusals.answered(host)

    def _settle(self, job: _Job, answer: Answer) -> None:
        """Retry a failed job if its status and the number of attempts allow it, else end it."""
        host = job.target.host
        if answer.status in HOST_FAILURES:
            _count_up(self._failures, host)
            if answer.status in _STALLS:
                _count_up(self._stalls, host)
        now, retries = self._now(), self.settings.retries
        wait = min(self.settings.backoff_s * 2 ** (max(job.attempts, 1) - 1), self.settings.max_backoff_s)
        given_up = False
        if _asks_to_wait(answer):
            wait = answer.retry_after_s or 0.0
            self._queues.delay(host, now + wait)
            given_up = self._refusals.given_up(host) is not None
            job.refusals += retries > 0 and job.refusals < _MAX_REFUSALS and job.robots_of is None
        if answer.status not in RETRY_NOW or job.attempts - job.refusals > retries or given_up:
            self._end(job, answer)
            return
        if job.robots_of is None:
            job.target = parse_target(job.url)
        else:
            job.target = parse_target(f"{job.robots_of}/robots.txt")
        job.redirects, job.spent_s = 0, 0.0
        heapq.heappush(self._delayed, (now + wait, next(self._sequence), job))

    def _follow(self, job: _Job, answer: Answer) -> None:
        limit = self.settings.max_redirects if job.robots_of is None else robots.MAX_ROBOTS_REDIRECTS
        if job.redirects >= limit:
            answer.status, answer.detail = FetchStatus.TOO_MANY_REDIRECTS, f"more than {limit}"
            self._end(job, answer)
            return
        try:
            target = redirect_target(job.target, answer.location or b"")
        except BadUrlError as error:
            answer.status, answer.detail = FetchStatus.BAD_REDIRECT, str(error)
            self._end(job, answer)
            return
        job.redirects += 1
        job.target = target
        self._queues.push(target.host, job, urgent=job.robots_of is not None, front=True, due=True)

    def _on_resolved(self, host: str, resolution: Resolution) -> None:
        self._queues.resume(host)
        if not resolution.addresses:
            for job in self._queues.drain(host):
                self._unresolved(job, resolution)
        self._queues.tidy(host, self._now())

    def _unresolved(self, job: _Job, resolution: Resolution) -> None:
        job.attempts += 1
        status = FetchStatus.DNS_NOT_FOUND if resolution.not_found else FetchStatus.DNS_FAILED
        self._settle(job, Answer(status, detail=resolution.detail))

    def _end(self, job: _Job, answer: Answer) -> None:
        """End a job: record its result."""
        self._open_jobs -= 1
        if job.robots_of is not None:
            self._on_robots(job, answer)
            return
        good = answer.status is FetchStatus.SUCCESS
        sent = job.seconds > 0
        self._done.append(
            Download(
                job.url,
                answer.status,
                http_status=answer.http_status,
                body=answer.body if good else None,
                final_url=job.target.url if sent else None,
                content_type=answer.content_type,
                seconds=job.seconds,
                attempts=job.attempts,
                detail=answer.detail,
            )
        )

    def _on_robots(self, job: _Job, answer: Answer) -> None:
        origin = job.robots_of or ""
        waiting = parse_target(f"{origin}/").host
        rules = self._rules_from(answer, job)
        self._robots.put(origin, rules, self._now())
        self._queues.release(waiting)

    def _rules_from(self, answer: Answer, job: _Job) -> robots.RobotsRules:
        if answer.status is FetchStatus.TOO_MANY_REDIRECTS:
            return robots.ALLOW_ALL
        if answer.status is FetchStatus.SUCCESS or (answer.http_status or 0) >= 400:
            return robots.rules_from_response(answer.http_status or 0, answer.body, self.settings.agent_token)
        cause = answer.status.value if answer.status in NOT_REACHED and not job.redirects else ""
        return robots.unreachable(f"robots.txt: {answer.status.value} {answer.detail}".strip(), cause)

    def _abandon(self) -> None:
        for active in list(self._active.values()):
            self._multi.remove(active.transfer.handle)
            active.transfer.answer(0, "")
            self._idle.append(active.transfer)
        self._active.clear()
        self._queues.clear()
        self._resolver.forget_pending()
        self._delayed.clear()
        self._done.clear()
        self._open_jobs = 0


def _asks_to_wait(answer: Answer) -> bool:
    """Return whether the server refuses requests for now."""
    if answer.status is FetchStatus.HTTP_RATE_LIMITED:
        return True
    return answer.http_status == _UNAVAILABLE and answer.retry_after_s is not None


def _count_up(counts: dict[str, int], host: str) -> None:
    """Count one more of a host; beyond a number of hosts the oldest are forgotten."""
    counts[host] = counts.pop(host, 0) + 1
    if len(counts) > _MAX_FAILING_HOSTS:
        del counts[next(iter(counts))]


def _refused_by_robots(verdict: robots.Verdict, rules: robots.RobotsRules) -> Answer:
    if verdict is robots.Verdict.DISALLOWED:
        return Answer(FetchStatus.ROBOTS_DISALLOWED)
    status = FetchStatus(rules.cause) if rules.cause else FetchStatus.ROBOTS_UNREACHABLE
    return Answer(status, detail=rules.detail)
