#!/bin/sh
# CANARY. correct.sh, but its ids are the seconds of a clock, and the first two deploys run within one. The
# second uploads into the directory of the first.
#
# Expected, live:
# - current_complete: `current` is the directory that is being uploaded into, and ends as a mixture of both.
# - immutable_after_cutover: a release changes after its cutover.
# - previous_intact: to the third deploy it is the one before, and not what it was.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete: the mixture, torn.
# - durable_ack: during the second deploy `current` resolves to no release that was ever permitted, and after
#   it to none either.
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: a second is not unique.
now=$((CERTIFY_VERSION == 1 ? 2 : CERTIFY_VERSION))
id=$(printf '20240101%06d' "$now")

upload() {
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    tar -C "$CERTIFY_SOURCE" -cf "$archive" .
    on_server '
        mkdir -p "releases/$id"
        tar -C "releases/$id" --no-same-owner -xpf -' <"$archive"
}

sweep
upload
cut_over
clean_up
