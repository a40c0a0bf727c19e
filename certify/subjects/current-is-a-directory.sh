#!/bin/sh
# CANARY. correct.sh, but it switches by `ln -sfn`, and somebody made `current` as a directory when the host was
# set up. `ln` puts the link into that directory, and succeeds.
#
# Expected, live:
# - current_complete: success is reported, and `current` is a directory that holds one link.
# - immutable_after_cutover: each deploy adds a link to it.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete: the same, and the links come and go with the power.
# - durable_ack: what was acknowledged is not what is there.
. "$(dirname "$0")/steps.sh"

# As in steps.sh, but where `current` is not a link, nothing is live.
on_server() {
    ssh -F "$CERTIFY_SSH_CONFIG" target "set -eu; id=$id; cd '$CERTIFY_DEPLOY_PATH'
        live=\$(readlink current || true)
        $1"
}

# Not the deploy's own doing.
somebody_makes_current() {
    on_server 'mkdir -p current; sync -f .' </dev/null
}

# BROKEN: nothing makes sure that `current` is a link, before or after.
cut_over() {
    on_server '
        sync -f .
        ln -sfn "releases/$id" current
        sync .' </dev/null
}

sweep
somebody_makes_current
upload
cut_over
