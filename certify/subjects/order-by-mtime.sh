#!/bin/sh
# CANARY. correct.sh, but the cleanup takes the three directories that were modified last for the newest
# releases. Somebody has touched the old ones: an editor, a backup that was played back. Run it with `--keep 3`.
#
# Expected, live, from the fourth deploy on:
# - current_complete: the new release came with the older time of its source; it is removed while it is live.
# - never_absent: `current` dangles.
# - immutable_after_cutover: the removal of what is live is a change.
# - retention: three remain, but not the live one.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: as live.
. "$(dirname "$0")/steps.sh"

# Not the deploy's own doing.
somebody_touches_old_releases() {
    on_server 'touch $(find releases -mindepth 1 -maxdepth 1 ! -name "$id")' </dev/null
}

# BROKEN: a time says when a directory was touched, not which release came last.
clean_up() {
    on_server '
        kept=0
        all=$(ls -t releases)
        for release in $all; do
            kept=$((kept + 1))
            [ "$kept" -le 3 ] || rm -rf "releases/$release"
        done' </dev/null
}

sweep
upload
cut_over
[ "$CERTIFY_VERSION" -lt 2 ] || somebody_touches_old_releases
clean_up
