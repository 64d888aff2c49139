"""Runs ``setup.py develop`` in this folder, as people did for years."""

import os
import subprocess
import sys

os.chdir(os.path.dirname(os.path.abspath(__file__)))
sys.exit(subprocess.call([sys.executable, "setup.py", "--quiet", "develop", "--no-deps"]))
