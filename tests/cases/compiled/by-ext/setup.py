from setuptools import Extension, setup

setup(
    name="by-ext",
    version="1.2.3",
    packages=["by_ext"],
    package_data={"by_ext": ["data.txt"]},
    ext_modules=[Extension("by_ext._sum", ["by_ext/_sum.c"])],
    entry_points={"console_scripts": ["by-ext=by_ext:main"]},
)
