#!/bin/sh
# CANARY. correct.sh for the first deploy; every later one uploads into the live release, in place. It
# ends with the right files, all of them durable. Needs rsync on both sides.
#
# Expected, live:
# - current_complete: while files change one by one, `current` resolves to a mixture of two releases.
# - immutable_after_cutover: a release changes after its cutover.
# - readers_whole: its readers get files of two releases, however they read.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the mixture survives a power loss, torn.
# - durable_ack: during the next deploy `current` resolves to no release that was ever permitted.
# Not asked: previous_intact and retention, for there is never a second release. Its deploys after the first
# switch nothing.
. "$(dirname "$0")/steps.sh"

# BROKEN: the files of the live release are replaced under its readers. (--checksum and --delete: the
# result is exact, only the way is wrong.)
upload_into_live() {
    rsync -rlpt --checksum --delete -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/current/"
    on_server 'sync -f .' </dev/null
}

sweep
if on_server '[ -n "$live" ]' </dev/null; then
    upload_into_live
else
    upload
    cut_over
fi
