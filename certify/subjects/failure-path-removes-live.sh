#!/bin/sh
# CANARY. correct.sh, but when the check after the cutover fails, the new release is removed first and
# `current` is put back afterwards. The check of the second deploy fails.
#
# Expected, live:
# - current_complete: `current` is the release that is being removed.
# - never_absent: then it dangles, until it is put back.
# - immutable_after_cutover: the release was live when it was removed.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete: the power may fail in between.
# - durable_ack: then what was acknowledged before is not what `current` resolves to.
# The history ends with that deploy, so whatever is not broken is unknown.
. "$(dirname "$0")/steps.sh"

# BROKEN: what is live goes before something else is.
back_out() {
    on_server '
        before=$(ls -r releases | sed -n 2p)
        rm -rf "releases/$id"
        link=.current.back.$$
        ln -sT "releases/$before" "$link"
        sync -f .
        mv -T "$link" current
        sync .' </dev/null
}

check() {
    [ "$CERTIFY_VERSION" -ne 2 ]
}

sweep
upload
cut_over
if ! check; then
    back_out
    exit 1
fi
clean_up
