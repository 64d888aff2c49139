from importlib.resources import files

fronds = 4


def main():
    print((files(__name__) / "spores.txt").read_text().strip())
