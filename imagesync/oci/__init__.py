"""The OCI specifications: references, manifests, registries; nothing here knows of Python environments."""
