"""Measure what images that training and evaluation data share do to accuracy (paper section 5, appendix C)."""
