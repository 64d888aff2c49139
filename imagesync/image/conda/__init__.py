"""The layer of conda packages: archives, bytecode and the installer that a build needs."""
