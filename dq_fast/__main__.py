"""`python -m dq_fast` is `dq-fast`."""

import sys

from dq_fast.cli import main

sys.exit(main())
