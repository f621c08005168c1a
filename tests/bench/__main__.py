"""`python -m tests.bench`: the gateway beside its peers."""

import sys

from tests.bench.gateway_bench import main

sys.exit(main())
