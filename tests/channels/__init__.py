"""A real conda channel without conda: its packages, a server for it, and environments made from it.

``interpreter`` takes a local CPython and its shared libraries apart, ``wheels`` does so with wheels
of PyPI, ``doubles`` makes small packages, ``archive`` writes packages, ``content`` says what the channel
holds, ``channel`` makes it once a machine, ``server`` serves it, ``environments`` installs from it.
"""
