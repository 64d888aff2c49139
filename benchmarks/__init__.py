"""Benchmarks: imagesync beside what one would use without it, on one machine, in turns."""
