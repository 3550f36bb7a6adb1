"""``python -m quantbench``."""

from quantbench.cli import main

raise SystemExit(main())
