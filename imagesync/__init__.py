"""imagesync: your local Python environment becomes an OCI image, and a cluster starts from it.

>>> session = open_session(quiet=True)  # the active environment, and the settings of this folder
>>> sorted(package.name for package in session.scan().packages if package.name == "imagesync")
['imagesync']
"""

from imagesync.errors import ImagesyncError
from imagesync.pipeline import Session, open_session
from imagesync.settings import Settings

__all__ = ["ImagesyncError", "Session", "Settings", "open_session"]
