#!/bin/sh
# CANARY. correct.sh, but nothing is ever cleaned up. Run it with `--keep 3`.
#
# Expected, live:
# - retention: when the fourth deploy ends, four releases are there.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

sweep
upload
cut_over
# BROKEN: no clean_up.
