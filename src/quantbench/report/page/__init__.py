"""The page: verdicts, tables, charts and every claim, in one HTML file that needs no network."""
