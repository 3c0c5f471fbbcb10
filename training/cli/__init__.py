"""The command `wit-train`."""
