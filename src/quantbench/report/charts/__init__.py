"""Charts of what was found: each module makes Vega-Lite specifications, which browsers draw."""
