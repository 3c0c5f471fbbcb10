"""Samples: images with their texts and facts beside them, in tars, in folders, and in finished datasets."""
