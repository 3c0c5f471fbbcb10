"""Stage fetch: from URLs to decoded, resized images."""
