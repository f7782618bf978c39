"""``python -m speechbrain_phaseinv.cli``."""

import sys

from . import main

sys.exit(main())
