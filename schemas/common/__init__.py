"""What both wings share: errors, atomic writes, settings, the entry point of commands."""
