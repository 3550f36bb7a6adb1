"""Plots of what was found, as SVG; each is drawn again only when its data or code changed."""
