"""Readers of the web's formats, the downloader, robots and address safety. No Beam here."""
