#!/bin/sh
# CANARY. correct.sh, but files of the application that are also below shared/ are copied over there, "so
# that the shared ones are up to date". The user data in shared/ must hold a file that the application has
# as well, as the bundled application's does.
#
# Run it with `--shared public/robots.txt --adds public/robots.txt`: user data of a name that the application
# has, which this script need not link.
# Expected, live and posix:
# - shared_intact: a file below shared/ is overwritten by the deploy.
. "$(dirname "$0")/steps.sh"

# BROKEN: user data is not the deploy's to touch.
seed_shared() {
    on_server '
        [ -d shared ] || exit 0
        cd shared
        find . -type f -exec cp "../releases/$id/{}" {} \; 2>/dev/null || true' </dev/null
}

sweep
upload
seed_shared
cut_over
clean_up
