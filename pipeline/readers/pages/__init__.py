"""Read web pages: charsets, HTML, WAT records, and the images found on a page."""
