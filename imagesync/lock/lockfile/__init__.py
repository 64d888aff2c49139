"""Lock files for other tools: ``conda-lock.yml``, explicit files, requirements and ``pylock.toml``.

In: a ``Bundle``, which is a lock with the files that only this machine has; or a lock file. Out: text and
files, or a lock.
"""
