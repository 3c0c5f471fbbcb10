"""The downloader: URLs in, typed responses out, with robots.txt, opt-outs and address checks."""
