"""Hold the commands of `wit-train`, a module for each group; what they need is imported when one runs."""
