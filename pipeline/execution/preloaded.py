"""Import what the jobs of most stages need, once for all workers: the fork server loads this module."""

# ruff: noqa: F401
import numba
import numpy
import PIL.Image
import pyarrow
import pyarrow.compute
import pyarrow.parquet

import openwit.pipeline.execution.local_pool
import openwit.pipeline.execution.pool_engine
