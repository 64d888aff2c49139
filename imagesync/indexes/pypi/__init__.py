"""Package indexes: the configuration of pip, uv, pixi, poetry and PDM, and its translation for uv.

``project_configuration.py`` decides which tool's configuration applies.
"""
