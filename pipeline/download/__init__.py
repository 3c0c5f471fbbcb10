"""Download URLs: typed results, with robots.txt, opt-outs and address checks."""
