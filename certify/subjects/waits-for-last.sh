#!/bin/sh
# CANARY. correct-parallel.sh, but it waits for the connection that was started last, and for no other. As long as
# that is the slowest, nothing is wrong. Run it with `--recordings 3` or more.
#
# Expected, live:
# - current_complete: a part of the release arrives after its cutover.
# - immutable_after_cutover: so the release changes.
# - previous_intact: to the next deploy it is the one before, and not what it was.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack, previous_intact: what arrived after the barrier comes and goes with the power.
. "$(dirname "$0")/parts.sh"

# BROKEN: `$!` is the last one.
upload() {
    on_server 'rm -rf "releases/$id"; mkdir "releases/$id"' </dev/null
    upload_part 1 &
    upload_part 2 &
    upload_part 3 &
    wait $!
}

sweep
upload
cut_over
clean_up
