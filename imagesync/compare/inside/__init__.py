"""What runs in other processes, without imagesync: standard library only, Python 3.8 and later."""
