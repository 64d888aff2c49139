import subprocess
from importlib.metadata import entry_points, version
from importlib.resources import files

(plant,) = entry_points(group="hedgerow.plants")
assert plant.load() == "Crataegus"
assert version("hedgerow") == "0.7"
assert (files("hedgerow") / "berries.txt").read_text() == "haws\n"
assert subprocess.run(["hedgerow-berries"], capture_output=True, text=True, check=True).stdout == "haws\n"
