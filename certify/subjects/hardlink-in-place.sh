#!/bin/sh
# CANARY. correct-link-dest.sh, but the release is a copy of the live one by hard links (`cp -al`), which
# `rsync --inplace` brings up to date: it writes into the files of the live release. Needs rsync on both sides.
#
# Expected, live:
# - current_complete: the live release gets the new version's bytes, file by file.
# - immutable_after_cutover: a release changes after its cutover.
# - previous_intact: the release before is not what it was.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack, previous_intact: the same, torn.
. "$(dirname "$0")/steps.sh"

# BROKEN: one inode, two releases.
copy_and_update() {
    on_server '
        rm -rf "releases/$id"
        if [ -n "$live" ]; then cp -al "$live" "releases/$id"; else mkdir "releases/$id"; fi' </dev/null
    rsync -rlpt --checksum --inplace --delete -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
}

sweep
copy_and_update
cut_over
clean_up
