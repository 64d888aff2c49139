from importlib.metadata import entry_points, version

(plant,) = entry_points(group="hedgerow.plants")
assert plant.load() == "Crataegus"
assert version("hedgerow") == "0.7"
