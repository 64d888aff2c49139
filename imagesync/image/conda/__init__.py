"""The layer of conda packages.

In: the conda packages of a lock, and their archives. Out: archives, bytecode and installer for the build step
that installs them, in the build context or in images of the engine. ``conda_python`` chooses whose Python the
image gets.
"""
