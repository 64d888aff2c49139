"""OCI registries over HTTP, without an engine; nothing here knows of Python environments.

In go image references, out come digests and configurations, or permission to push.
"""
