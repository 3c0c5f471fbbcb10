"""Which queries occur in a caption: the compiled matcher."""
