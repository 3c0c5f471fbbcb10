"""Run jobs: file tasks with completion markers, keyed shuffles, stage folders, progress."""
