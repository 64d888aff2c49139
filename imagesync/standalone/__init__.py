"""Programs that run in other interpreters: on the host, in images and in clusters.

They need the standard library alone and the syntax of Python 3.8. What two of them share is in a module of
its own, and :mod:`imagesync.standalone.programs` puts the text of a program together.
"""
