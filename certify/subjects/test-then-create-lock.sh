#!/bin/sh
# CANARY. correct.sh with a lock that is looked for first and made second, and two deploys of one release that
# are started at once: both find none. Their steps then take turns in the worst order, which is written out
# here, so that it is the same every time.
#
# Expected, live:
# - current_complete: the second removes what the first has just put live, to upload it anew.
# - never_absent: while it does, `current` dangles.
# - immutable_after_cutover: what is removed is live.
# - previous_intact: the release before the second cutover is that of the first, and it is gone.
# - retention: so it is when the releases are counted.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete: the power may fail in between.
# - durable_ack: during the next deploy the same.
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: between the look and the file, anybody can do the same.
lock_is_free() {
    on_server '[ ! -e lock ]' </dev/null
}

take_lock() {
    on_server 'echo "$$" >lock' </dev/null
}

# As in steps.sh, for a release that is not live: a deploy looks once, when it begins.
upload_anew() {
    tar -C "$CERTIFY_SOURCE" -cf - . | on_server '
        rm -rf "releases/$id"
        mkdir "releases/$id"
        tar -C "releases/$id" --no-same-owner -xpf -'
}

sweep
lock_is_free                # the first
lock_is_free                # the second
take_lock                   # the first
take_lock                   # the second
upload_anew                 # the first
cut_over                    # the first
upload_anew                 # the second
cut_over                    # the second
on_server 'rm -f lock' </dev/null
clean_up
