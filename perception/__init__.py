"""From depth frames to the space a person occupies or could occupy."""
