"""Programs for the interpreters of images.

They install packages in a build, build wheels in a container, and report what an image holds.
"""
