from setuptools import setup

setup(name="cellar", version="0.3", packages=["cellar"], install_requires=["toolz"])
