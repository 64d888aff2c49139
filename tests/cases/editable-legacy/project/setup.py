from setuptools import setup

setup(
    name="cellar",
    version="0.3",
    packages=["cellar"],
    package_data={"cellar": ["*.txt"]},
    install_requires=["toolz"],
    entry_points={"console_scripts": ["cellar-count=cellar:main"]},
)
