#!/bin/sh
# CANARY. correct.sh, but who makes the deploy path leaves a sign there until the first release is live. Whoever finds
# the sign refuses. Where the deploy path is there before the first deploy, there is never a sign, and that is no defect:
# run it with `--from-nothing`.
#
# Expected, live and posix: nothing broken.
# Expected, runs (`--recoveries 24`), starting without the deploy path, after a power loss or a kill in the first deploy:
# - recoverable: the sign is still there, nobody is at work, and every run refuses until somebody removes it.
. "$(dirname "$0")/steps.sh"

# Two cannot both set it up. BROKEN: nothing takes the sign away from a run that has died.
set_up() {
    ssh -n -F "$CERTIFY_SSH_CONFIG" target "set -eu
        if [ ! -e '$CERTIFY_DEPLOY_PATH' ]; then
            mkdir -p '$CERTIFY_DEPLOY_PATH'
            : >'$CERTIFY_DEPLOY_PATH/.setup'
        elif [ -e '$CERTIFY_DEPLOY_PATH/.setup' ]; then
            echo 'somebody is setting it up' >&2
            exit 1
        fi"
}

set_up
sweep
upload
link_shared
cut_over
clean_up
on_server 'rm -f .setup' </dev/null
