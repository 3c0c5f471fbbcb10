"""Declare the Arrow schemas of every table that crosses a stage."""
