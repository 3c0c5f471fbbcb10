"""Run a worker process of the local runner: Beam's worker, without its log on the user's terminal."""

import logging
import sys
import warnings


def main() -> None:
    """Serve the runner that started this process until it stops the worker."""
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", module="apache_beam")
    from apache_beam.runners.worker import sdk_worker_main  # after the above: importing it logs

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
