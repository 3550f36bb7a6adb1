"""``python -m quantbench``."""

from __future__ import annotations

from quantbench.cli.main import main

raise SystemExit(main())
