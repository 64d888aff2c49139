from importlib.resources import files

depth = "1.0"


def main():
    print((files(__name__) / "fish.txt").read_text().strip())
