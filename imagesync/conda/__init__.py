"""The conda layer of an image: what its archives hold, what installs them, and their bytecode."""
