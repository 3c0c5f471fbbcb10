"""Stage select: search every query in every caption, and balance."""
