"""Read everything that the builder takes as input."""
