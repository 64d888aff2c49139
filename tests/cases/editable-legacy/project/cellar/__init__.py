import toolz

bottles = toolz.count("red white".split())
