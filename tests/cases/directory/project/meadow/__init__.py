from importlib.resources import files

flowers = ("clover", "daisy")


def main():
    print((files(__name__) / "soil.txt").read_text().strip())
