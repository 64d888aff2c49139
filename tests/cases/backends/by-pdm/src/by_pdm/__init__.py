from importlib.resources import files


def main():
    print((files(__name__) / "data.txt").read_text())
