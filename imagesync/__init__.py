"""imagesync: your local Python environment becomes an OCI image, and a cluster starts from it."""
