#!/bin/sh
# CANARY. Two directories that take turns, blue and green: rsync brings the one that is not live up to date, then
# `current` is switched to it. Needs rsync on both sides.
#
# Expected, live, from the third deploy on:
# - current_complete: the name of a release means another tree than before; whoever was in it sees it change.
# - immutable_after_cutover: a release changes after its cutover.
# - previous_intact: from the fourth deploy on the release before is one that was written to.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: `current` resolves to a directory that is not what it was, or torn.
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: a directory that was live is written to.
upload_into_slot() {
    if [ $((CERTIFY_VERSION % 2)) -eq 1 ]; then id=blue; else id=green; fi
    rsync -rlpt --checksum --delete -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
}

ssh -n -F "$CERTIFY_SSH_CONFIG" target "mkdir -p '$CERTIFY_DEPLOY_PATH/releases'"
upload_into_slot
cut_over
