"""Wheels made on this machine: built from source trees, or repacked from what is installed."""
