"""From what a crawl or a table holds to clean (image, text) pairs: reading, sieving, splitting, counting. No Beam."""
