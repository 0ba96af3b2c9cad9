"""python -m vizlib."""

import sys

from vizlib.cli import main

sys.exit(main())
