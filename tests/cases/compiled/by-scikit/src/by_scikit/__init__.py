from importlib.resources import files

from by_scikit._sum import sum


def main():
    print((files(__name__) / "data.txt").read_text().strip(), sum(2, 3))
