#!/bin/sh
# CANARY. correct.sh, but the cleanup knows the live release by its path as text, and reaches the deploy path
# under another name than `readlink -f` tells: through a symbolic link beside it, as where /var/www is a link.
# Run it with `--keep 1`.
#
# Expected, live:
# - current_complete: no text is equal to the live release's, so the live release is removed as well.
# - never_absent: `current` dangles from then on, until the next deploy.
# - immutable_after_cutover: the removal of what is live is a change.
# - retention: one was promised, none remains.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: as live.
# Not asked: previous_intact, for what is gone when success is reported was never promised to anybody.
. "$(dirname "$0")/steps.sh"

# BROKEN: two names of one directory are not equal as texts.
clean_up() {
    on_server '
        alias=$PWD-alias
        ln -sfnT "$PWD" "$alias"
        live=$(readlink -f current)
        for release in "$alias"/releases/*; do
            [ "$release" = "$live" ] || rm -rf "$release"
        done' </dev/null
}

sweep
upload
cut_over
clean_up
