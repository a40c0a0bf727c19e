#!/bin/sh
# CANARY. correct.sh, but its ids are times of a clock that is set back before the fourth deploy: local time, at
# the end of summer. Run it with `--keep 3`.
#
# Expected, live, from the fourth deploy on:
# - current_complete: the id of the live release is the oldest, so the cleanup removes it.
# - never_absent: `current` dangles.
# - immutable_after_cutover: the removal of what is live is a change.
# - retention: three remain, but not the live one.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: an id that is not newer than all before it. (The sweep of steps.sh relies on ids, too: it is left out.)
[ "$CERTIFY_VERSION" -lt 4 ] || id=$(printf '20231231%06d' "$CERTIFY_VERSION")

prepare() {
    ssh -n -F "$CERTIFY_SSH_CONFIG" target "mkdir -p '$CERTIFY_DEPLOY_PATH/releases'"
}

prepare
upload
cut_over
clean_up
