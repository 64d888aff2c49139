"""Source trees of packages: their files and digests, and copies that a build may write into.

In: the folder, repository or archive that a package was installed from. Out: a digest, or a copy for a build.
"""
