"""What speed and separation monitoring costs: the same visits under several methods."""
