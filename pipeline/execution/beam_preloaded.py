"""Import what Beam's workers need, once for all of them: the fork server of the worker pool loads this module."""

# ruff: noqa: F401
from openwit.pipeline.execution import beam_quiet

# isort: split
import apache_beam.runners.worker.sdk_worker_main

import openwit.pipeline.execution.beam_graph
