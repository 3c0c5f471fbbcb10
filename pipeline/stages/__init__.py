"""The stages of a build, one package each."""
