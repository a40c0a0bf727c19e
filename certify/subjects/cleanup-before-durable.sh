#!/bin/sh
# CANARY. correct.sh, but it cleans up between the rename and the sync that makes the rename durable, and
# keeps only the new release. Run it with `--keep 1`, so that keeping one is not by itself a broken
# promise.
#
# Expected, live:
# - previous_intact: the release that was live before the cutover does not survive the deploy.
# Expected, posix (btrfs as well; ext4 and xfs keep the rename and the removals in order):
# - current_complete: after a power loss `current` is the old link, and its release has been emptied.
# - durable_ack: the same: what was acknowledged last is gone, and what was to replace it is not named.
# - previous_intact: the same, seen from the release.
# With `--keep 3`, live: retention and immutable_after_cutover as well.
set -eu

id=$(printf '20240101%06d' "$CERTIFY_VERSION")

# Runs $1 on the server, in the deploy path, with the text of `current` in $live: empty if there is none, and
# an error if it cannot be read. All of it travels as one command, so a connection that breaks can never
# leave half of it running.
on_server() {
    ssh -F "$CERTIFY_SSH_CONFIG" target "set -eu; id=$id; cd '$CERTIFY_DEPLOY_PATH'
        live=\$(find . -maxdepth 1 -name current -exec readlink {} +)
        $1"
}

# A killed run leaves a release that never went live. Ids only grow and this script never goes back, so that
# is whatever is newer than the live one. Kept, it would count for retention in place of a good one.
sweep() {
    ssh -n -F "$CERTIFY_SSH_CONFIG" target "mkdir -p '$CERTIFY_DEPLOY_PATH/releases'"
    on_server '
        all=$(ls releases)
        for release in $all; do
            if [ -n "$live" ] && [ "$release" -gt "${live#releases/}" ]; then
                rm -rf "releases/$release"
            fi
        done
        rm -f .current.*' </dev/null
}

# Uploads the release, unless an earlier run of this version already went live: then it is complete, and only
# its cutover may have been lost.
upload() {
    # A file between the two: sh does not see when the first command of a pipeline fails.
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    tar -C "$CERTIFY_SOURCE" -cf "$archive" .
    on_server '
        [ "$live" != "releases/$id" ] || exit 0
        rm -rf "releases/$id"
        mkdir "releases/$id"
        tar -C "releases/$id" --no-same-owner -xpf -' <"$archive"
}

# The link that is going to be `current`, under a name of this run alone. -T: never into a directory.
# Then everything so far, the link itself included, becomes durable: the barrier before the cutover.
# BROKEN: the rename replaces `current` at once, but only in memory, and what it replaced goes next.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv -T "$link" current' </dev/null
}

clean_up() {
    on_server '
        all=$(ls releases)
        for release in $all; do
            [ "$release" = "$id" ] || rm -rf "releases/$release"
        done' </dev/null
}

make_durable() {
    on_server 'sync .' </dev/null
}

sweep
upload
cut_over
clean_up
make_durable
