from importlib.resources import files

import toolz


def count() -> int:
    return toolz.count(files("orchard").joinpath("data/trees.txt").read_text().split())


def main() -> None:
    print(count())
