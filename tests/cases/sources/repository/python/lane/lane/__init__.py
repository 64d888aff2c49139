from importlib.resources import files

trees = (files(__name__) / "trees.txt").read_text().split()
