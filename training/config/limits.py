"""Upper bounds of numbers in several sections: far above what makes sense, so that a slip is refused at once."""

LARGEST_BATCH = 2**22
"""Samples in a step, a chunk or an evaluation's batch: four times the largest batch that was ever published."""
MOST_SAMPLES = 10**13
"""Samples of a set."""
LARGEST_IMAGE = 16_384
"""Side of an image, in pixels."""
LARGEST_WIDTH = 2**20
"""Channels, heads and dimensions."""
MOST_LAYERS = 10_000
"""Blocks in a tower or a stage."""
LONGEST_CONTEXT = 2**20
"""Tokens of a text."""
MOST_TOKEN_IDS = 2**28
"""Ids of a vocabulary."""
MOST_WORKERS = 4_096
"""Threads, streams and batches that are prepared."""
LARGEST_WEIGHT = 1e9
"""Weight of one among several."""
LONGEST_WAIT_MINUTES = 30 * 24 * 60
"""Thirty days."""
MOST_PROCESSES = 2**20
"""Processes that share a batch."""
MOST_CHECKPOINTS = 1_000_000
"""Checkpoints of a run."""
