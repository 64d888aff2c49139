"""conda channels: configuration, names, mirrors, and the credentials of conda, pixi and mamba.

Configuration files and variables go in; channel URLs and how to reach them come out.
"""
