"""``python -m dualfocus_eval``, for launchers: ``accelerate launch -m dualfocus_eval eval --tasks ...``."""

import sys

from dualfocus_eval.cli.main import main

sys.exit(main())
