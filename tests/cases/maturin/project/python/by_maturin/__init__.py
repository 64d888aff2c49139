from importlib.resources import files


def read():
    return (files(__name__) / "data.txt").read_text().strip()
