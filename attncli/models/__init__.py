"""Model families, one file each, and their published sizes."""
