"""Lock a dataset, and fetch it again from its lockfile: verified, and refilled by the same draw."""
