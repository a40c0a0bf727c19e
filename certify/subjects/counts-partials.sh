#!/bin/sh
# CANARY. correct.sh, but it does not sweep, and uploads that died count for retention. Before each deploy one
# did. Run it with `--keep 3`.
#
# Expected, live, from the third deploy on:
# - retention: of the three that remain, one was never a release.
# - previous_intact: a release that was promised is not there.
# - immutable_after_cutover: a removal of what retention promises counts as a change.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# An upload that died, under an id of its own between the last deploy's and this one's.
failed_run() {
    ssh -n -F "$CERTIFY_SSH_CONFIG" target "mkdir -p '$CERTIFY_DEPLOY_PATH/releases'"
    on_server '
        partial=releases/$((id - 1))5
        mkdir "$partial"
        echo partial >"$partial/index.html"' </dev/null
}

# BROKEN: keeps the newest three of all that is there; and nothing sweeps.
clean_up() {
    on_server '
        kept=0
        all=$(ls releases | sort -r)
        for release in $all; do
            kept=$((kept + 1))
            [ "$kept" -le 3 ] || rm -rf "releases/$release"
        done' </dev/null
}

failed_run
upload
cut_over
clean_up
