"""What was found, shown: the table, the pages with their plots, and MLflow."""
