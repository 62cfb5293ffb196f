"""Descriptions of the arms, one file each; `robots.description` reads them."""
