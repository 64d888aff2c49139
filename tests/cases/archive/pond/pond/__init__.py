from importlib.resources import files

depth = "3.0"


def main():
    print((files(__name__) / "fish.txt").read_text().strip())
