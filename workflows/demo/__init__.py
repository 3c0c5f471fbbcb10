"""The demo: a small web of emoji pictures, crawled, built into a dataset and trained on."""
