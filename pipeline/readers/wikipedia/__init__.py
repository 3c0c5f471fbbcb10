"""Read Wikipedia: article dumps, CirrusSearch dumps, page views."""
