"""What a dataset folder is made of: tars, indexes, statistics. No Beam here."""
