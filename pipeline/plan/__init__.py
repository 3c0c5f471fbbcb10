"""Plan a build before it starts: read a slice of its inputs, and tell what the whole would give and cost."""
