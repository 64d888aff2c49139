"""conda channels: configuration, names, mirrors, and the credentials of conda, pixi and mamba."""
