from importlib.resources import files

from garden import herbs


def main():
    assert herbs.main
    print((files(__name__) / "data.txt").read_text())
