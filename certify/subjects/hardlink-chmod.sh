#!/bin/sh
# CANARY. hardlink-in-place.sh without --inplace: rsync writes each file that changed anew and renames it into
# place, which leaves the live release its own. But where the mode alone changed, it is the mode of the shared
# file that rsync changes. The application must have such a change, as the bundled one does in its second
# release. Needs rsync on both sides.
#
# Expected, live:
# - current_complete: a file of the live release gets the new version's mode.
# - immutable_after_cutover: a release changes after its cutover.
# - previous_intact: the release before is not what it was.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack, previous_intact: the same.
. "$(dirname "$0")/steps.sh"

# BROKEN: modes, owners and times belong to the inode. `rsync --link-dest` knows; `cp -al` does not.
copy_and_update() {
    on_server '
        rm -rf "releases/$id"
        if [ -n "$live" ]; then cp -al "$live" "releases/$id"; else mkdir "releases/$id"; fi' </dev/null
    rsync -rlpt --checksum --delete -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
}

sweep
copy_and_update
cut_over
clean_up
