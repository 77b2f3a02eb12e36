"""``python -m flowpolicy`` is the command ``flowpolicy``."""

import sys

from flowpolicy.cli import main

sys.exit(main())
