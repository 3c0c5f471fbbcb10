"""Check a build on one of Beam's runners before it runs: the graph of every job, and what its workers must see."""
