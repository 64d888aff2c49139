"""What runs in other processes, where imagesync is not installed: standard library only, Python 3.8 and later."""
