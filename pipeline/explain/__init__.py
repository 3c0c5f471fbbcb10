"""Show where an image of a dataset comes from, or at which stage it was dropped and why."""
