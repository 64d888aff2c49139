from importlib.resources import files


def inventory() -> list[str]:
    return files(__name__).joinpath("inventory.txt").read_text().split()
