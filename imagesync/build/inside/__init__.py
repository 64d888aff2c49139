"""Scripts that run inside containers, in the image's own Python: standard library only, 3.10 and later."""
