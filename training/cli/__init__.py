"""Command line `wit-train`."""
