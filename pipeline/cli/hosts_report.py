"""Print the hosts with the most failed downloads."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from openwit.pipeline.stages.fetch.hosts import HOSTS_FILE, worst_hosts
from openwit.schemas.common.printable import printable
from openwit.schemas.common.wording import counted


def print_hosts(console: Console, folder: Path, n: int = 10) -> None:
    """Print the hosts with the most dropped URLs of a finished fetch folder. Prints nothing if there are none."""
    path = folder / HOSTS_FILE
    if not path.exists():
        return
    worst, hosts = worst_hosts(path, n)
    if not worst:
        return
    table = Table(title="Hosts with most failures", title_justify="left", show_edge=False, pad_edge=False)
    for header in ("host", "URLs", "kept", "most frequent failure", "URLs", "median ms", "p95 ms"):
        table.add_column(header, justify="left" if header in ("host", "most frequent failure") else "right")
    for row in worst:
        times = ["" if row[key] is None else f"{row[key]:,.0f}" for key in ("p50_ms", "p95_ms")]
        first = row["failures"][0]
        host = Text(printable(row["host"]) or "(no URL)", overflow="fold")
        table.add_row(host, f"{row['urls']:,}", f"{row['ok']:,}", first["reason"], f"{first['urls']:,}", *times)
    console.print()
    console.print(table)
    console.print(f"{counted(hosts, 'host')} in {path}. Every URL: {folder / 'log'}", highlight=False)
