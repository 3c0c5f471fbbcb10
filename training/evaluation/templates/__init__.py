"""Hold the built-in sets of templates, by what the images show."""
