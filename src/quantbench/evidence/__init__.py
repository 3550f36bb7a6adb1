"""From what a cell found to a verdict: intervals, paired tests, and the rules of judging."""
