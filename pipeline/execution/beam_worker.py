"""Run a worker process of the local runner: Beam's worker, without its log on the user's terminal."""

import logging
import os
import signal
import sys
import threading
import time
import warnings

_POLL_S = 1.0


def main() -> None:
    """Serve the runner that started this process until it stops the worker, or ends itself."""
    # Ctrl-C goes to all processes of a terminal: the driver stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver = os.environ.get("OPENWIT_DRIVER", "")
    if driver.isdecimal():
        threading.Thread(target=_end_with, args=(int(driver),), daemon=True).start()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", module="apache_beam")
    from apache_beam.runners.worker import sdk_worker_main  # after the above: importing it logs

    # What fails from here on reaches the driver by its own channel; when that is gone, Beam prints a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sdk_worker_main.main(sys.argv)


def _end_with(driver: int) -> None:
    """End this process when that of the driver is gone."""
    while _runs(driver):
        time.sleep(_POLL_S)
    os._exit(1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main()
