"""Rewrite finished datasets: filter, reshard, merge. Pictures are copied by their place and never decoded."""
