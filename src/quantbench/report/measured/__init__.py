"""``reference/measured.md``: the verdict of every claim that was run to its end, kept in git."""
