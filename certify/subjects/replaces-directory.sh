#!/bin/sh
# CANARY. correct.sh, but `current` is a plain directory at first, as a site that was copied there by hand, and
# the second deploy removes it to make room for the link.
#
# Expected, live:
# - current_complete: while the directory is removed, its visitors see less and less; then nothing.
# - never_absent: there is no `current` until the link is there.
# - immutable_after_cutover: what is removed is live.
# - previous_intact: what was live before does not survive the deploy.
# - retention: nor does it remain, when the releases are counted.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack, previous_intact: the power may fail in between.
. "$(dirname "$0")/steps.sh"

# As in steps.sh, but where `current` is not a link, nothing is live.
on_server() {
    ssh -F "$CERTIFY_SSH_CONFIG" target "set -eu; id=$id; cd '$CERTIFY_DEPLOY_PATH'
        live=\$(readlink current || true)
        $1"
}

# The site before there were releases; nothing is wrong with that yet.
copy_by_hand() {
    tar -C "$CERTIFY_SOURCE" -cf - . | on_server '
        mkdir by-hand
        tar -C by-hand --no-same-owner -xpf -
        sync -f .
        mv -T by-hand current
        sync .'
}

# BROKEN: a directory can be exchanged with a link in one step (`mv --exchange`), or refused.
make_room() {
    on_server '
        if [ -d current ] && [ ! -L current ]; then
            rm -rf current
        fi' </dev/null
}

if [ "$CERTIFY_VERSION" -eq 1 ]; then
    copy_by_hand
    exit 0
fi
sweep
upload
make_room
cut_over
clean_up
