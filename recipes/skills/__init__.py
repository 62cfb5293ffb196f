"""Skills, one file each; chosen by name through the entry points `cell.skills`."""
