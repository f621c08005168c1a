"""`./taskw mutants`: puts small faults into copies of the product, one at a time, and names those no test notices."""

import sys

from tests.mutants.run import main

sys.exit(main(sys.argv[1:]))
