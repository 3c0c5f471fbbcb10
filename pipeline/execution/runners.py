"""Name the Beam runners that jobs can run on, without importing Beam."""

from typing import Literal

RunnerName = Literal["local", "portable", "flink", "spark", "dataflow"]
