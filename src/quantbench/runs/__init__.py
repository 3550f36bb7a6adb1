"""What runs and what is kept: cells and their keys, the ledger, the accepted baseline."""
