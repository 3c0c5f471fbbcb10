"""Pure functions on images. No Beam here."""
