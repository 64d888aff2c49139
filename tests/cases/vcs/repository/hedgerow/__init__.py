from importlib.resources import files

hawthorn = "Crataegus"


def main():
    print((files(__name__) / "berries.txt").read_text().strip())
