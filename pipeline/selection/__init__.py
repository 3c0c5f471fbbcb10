"""The mathematics of selection: chance as a hash, thresholds, winners among equals. No Beam here."""
