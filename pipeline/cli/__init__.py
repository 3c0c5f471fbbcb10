"""Run the command `wit`. The only package of the builder that knows flags and the terminal."""
