"""The store: artifacts by their content, fetched once and shared between processes."""
