"""`python -m statestream.service.cli`."""

import sys

from statestream.service.cli import main

sys.exit(main())
