"""Find the evaluation datasets of the paper and of CLIP_benchmark below a folder, and read them as they lie there."""
