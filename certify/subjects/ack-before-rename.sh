#!/bin/sh
# CANARY. correct.sh, but it says that the release is live before it is. Run it with `--ack '^live: '`.
#
# Expected, live:
# - current_complete: what is reported as live is not what `current` leads to.
# - readers_whole: who reads through `current` finds something else than what was deployed.
# Expected, posix:
# - current_complete: the first deploy is reported while there is no `current`.
# - durable_ack: after the report, a power loss shows another release.
. "$(dirname "$0")/steps.sh"

sweep
upload
# BROKEN: the report belongs behind the next line.
echo "live: $id"
cut_over
clean_up
