"""Pure functions on text. No Beam here."""
