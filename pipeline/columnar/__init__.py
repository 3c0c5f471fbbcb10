"""How Arrow tables move through Beam: file-to-file stages, bucketed shuffles, counts, runners."""
