"""The program that runs inside a cluster's containers, in the image's own Python."""
