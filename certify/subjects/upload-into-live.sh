#!/bin/sh
# CANARY. correct.sh for the first deploy; every later one uploads into the live release, in place. It
# ends with the right files, all of them durable. Needs rsync on both sides.
#
# Expected, live:
# - current_complete: while files change one by one, `current` resolves to a mixture of two releases.
# - immutable_after_cutover: a release changes after its cutover.
# - previous_intact: the release before is overwritten by the new one.
# - retention (declared with `--keep 3`): there is never more than one release.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the mixture survives a power loss, torn.
# - durable_ack: during the next deploy `current` resolves to no release that was ever permitted.
# - previous_intact: as live.
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

# BROKEN: the files of the live release are replaced under its readers. (--checksum and --delete: the
# result is exact, only the way is wrong.)
upload_into_live() {
    rsync -rlpt --checksum --delete -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/current/"
    on_server 'sync -f .' </dev/null
}

# The link that is going to be `current`, under a name of this run alone. -T: never into a directory.
# Then everything so far, the link itself included, becomes durable: the barrier before the cutover.
# The rename replaces `current` at once. Its directory is made durable before anybody is told.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
if on_server '[ -n "$live" ]' </dev/null; then
    upload_into_live
else
    upload
    cut_over
fi
