"""Lock files that other tools read and write, ``conda-lock.yml`` first of all."""
