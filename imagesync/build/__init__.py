"""Building: an image from a build context, checked before it gets its name."""
