from importlib.metadata import version

import click
import toolz

assert toolz.__version__ == version("toolz") == "1.0.0"
assert version("click") == "8.1.8"
assert click.Command
