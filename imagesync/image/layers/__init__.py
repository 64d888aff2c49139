"""Layers that imagesync writes itself: the same packages give the same bytes, on every machine.

A part is all tar entries of one package, compressed on its own and kept in the store. A layer is the
concatenation of its parts and of one member with the end of the archive: gzip members and zstd frames may be
concatenated (RFC 1952, section 2.2; RFC 8878, section 3).
"""
