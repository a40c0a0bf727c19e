#!/bin/sh
# CANARY. correct.sh, but in the first deploy `current` is taken away once more, and made again, before success is
# reported: it was there to try it.
#
# Expected, live:
# - never_absent: `current` was there, and then it was not. Nothing had been reported as live, so that is all.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

sweep
upload
cut_over
if [ "$CERTIFY_VERSION" -eq 1 ]; then
    # BROKEN: visitors have seen it.
    on_server 'rm current' </dev/null
    cut_over
fi
clean_up
