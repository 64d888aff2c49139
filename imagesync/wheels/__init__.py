"""Making wheels on this machine, from source trees, sdists or installed files, and bytecode of wheels.

In: locked packages whose wheels aren't on an index, and the scanned interpreter. Out: checked wheels and
bytecode in the store. ``sources/`` finds and copies source trees, ``sdists/`` builds sdists of indexes.
"""
