#!/bin/sh
# Copies the plan of a fleet from the folder of its leader to the Secret nts-plan, for the pods of nts.yaml, for ever.
# usage: publish.sh FOLDER [SECONDS]     (default: every 60)
cd "$1" || exit
while :; do
    kubectl -n nts create secret generic nts-plan --from-file=plan=shared/plan --from-file=members \
        --from-file=clock --dry-run=client -o yaml | kubectl apply -f -
    sleep "${2:-60}"
done
