"""A process that has loaded all that training needs, and forks the processes of a run: loading once instead of often.

`python ready_processes.py` reads orders from its standard input, a JSON object a line: `pairs` (a list of objects of
`variables`, `out`, `error`: one process each) or `launched` (one of `size`, `out`, `error`: torchrun's own agent,
which starts and watches the processes), and `arguments` of `wit-train`, or of a `program` of pairs. It answers each
with a line: the processes' ids, and, once asked by `{"wait": [ids]}`, their exit codes; `{"poll": [ids]}` asks for
them without waiting (null: it runs).
"""

import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch._dynamo
import torch.distributed.fsdp
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import openwit.training.cli.main
import openwit.training.run.loop


def run(arguments: list[str]) -> None:
    openwit.training.cli.main.main(arguments)


def run_program(path: str, arguments: list[str]) -> None:
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def launched(arguments: list[str], size: int) -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        max_restarts=0,
    )
    elastic_launch(config, run)(arguments)


def forked(work: Callable[[], None], order: dict[str, Any]) -> int:
    """A new process that does some work and ends with its exit code."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(order.get("variables", {}))
        for number, name in ((1, order["out"]), (2, order["error"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def exit_code(child: int, ended: dict[int, int], options: int) -> int | None:
    """A process's exit code, kept for who asks again; None: it runs."""
    if child not in ended:
        found, status = os.waitpid(child, options)
        if found:
            ended[child] = os.waitstatus_to_exitcode(status)
    return ended.get(child)


def main() -> None:
    ended: dict[int, int] = {}
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer: list[int | None] = [exit_code(child, ended, 0) for child in order["wait"]]
        elif "poll" in order:
            answer = [exit_code(child, ended, os.WNOHANG) for child in order["poll"]]
        elif "launched" in order:
            one = order["launched"]
            answer = [forked(partial(launched, order["arguments"], one["size"]), one)]
        else:
            program = order.get("program")
            work = partial(run_program, program) if program else run
            answer = [forked(partial(work, order["arguments"]), one) for one in order["pairs"]]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
