#!/bin/sh
# CANARY. correct.sh, but it cleans up before it starts, keeps the three newest directories whatever `current`
# says, and never sweeps. After three failed runs, those are three directories that never were a release. Run it
# with `--keep 3`.
#
# Expected, live, from the second deploy on:
# - current_complete: the live release is removed, and so are all others.
# - never_absent: `current` dangles while the new release is uploaded.
# - immutable_after_cutover: the removal of what is live is a change.
# - previous_intact: the release that was live when the deploy began does not survive it.
# - retention: the three that are kept are not releases.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack, previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# Ids newer than the live one, and half an upload in each.
failed_runs() {
    on_server '
        for at in 1 2 3; do
            mkdir -p "releases/${id%?????}9000$at"
            echo partial >"releases/${id%?????}9000$at/index.html"
        done' </dev/null
}

# BROKEN: the newest are not the live one and those before it.
clean_up() {
    on_server '
        kept=0
        all=$(ls -r releases)
        for release in $all; do
            kept=$((kept + 1))
            [ "$kept" -le 3 ] || rm -rf "releases/$release"
        done' </dev/null
}

prepare() {
    ssh -n -F "$CERTIFY_SSH_CONFIG" target "mkdir -p '$CERTIFY_DEPLOY_PATH/releases'"
}

prepare
if [ "$CERTIFY_VERSION" -ge 2 ]; then
    failed_runs
    clean_up
fi
upload
cut_over
