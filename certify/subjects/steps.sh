# The steps of a small deploy that does it right. `correct.sh` runs them as they are; each canary beside it replaces one
# and says why that is wrong. Sourced, never run.
#
# The layout is releases/<id>, current -> releases/<id>. It makes no rollback and takes no lock (one run at a time). What
# it links from shared/ is set in the environment: SHARED='storage .env', names of plain characters, none below another.
# The deploy path must not contain a single quote.
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

# Puts a link to each path of SHARED into the release, whatever the application has there. The release was made by this
# run, and no path is below another: nothing can be removed through a link.
link_shared() {
    [ -n "${SHARED-}" ] || return 0
    on_server "
        [ \"\$live\" != releases/$id ] || exit 0
        for path in $SHARED; do
            rm -rf \"releases/$id/\$path\"
            mkdir -p \"\$(dirname \"releases/$id/\$path\")\"
            ln -srT \"shared/\$path\" \"releases/$id/\$path\"
        done" </dev/null
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

# Nothing is newer than the live release (see sweep), so the newest three are the live one, the one before
# it, and one more.
clean_up() {
    on_server '
        kept=0
        all=$(ls -r releases)
        for release in $all; do
            kept=$((kept + 1))
            [ "$kept" -le 3 ] || rm -rf "releases/$release"
        done' </dev/null
}
