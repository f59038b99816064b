#!/usr/bin/env bash
# Rolls an image out to the cluster that kubectl is set up for, waits until every Deployment has it, and goes back to what ran before if one
# does not come up:
#
#   deploy/rollout.sh REGISTRY/roombook@sha256:… [OVERLAY]
#
# OVERLAY is production, which is the default, or production-istio. ROLLOUT_TIMEOUT is how long to wait for each Deployment, 5m by
# default.
set -euo pipefail

image=${1:?name the image by its digest}
overlay=${2:-production}
namespace=roombook
timeout=${ROLLOUT_TIMEOUT:-5m}
[[ $image == *@sha256:* ]] || { echo "rollout: $image is not named by its digest" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)

manifests=$(kubectl kustomize "$here/kubernetes/overlays/$overlay" | sed "s|image: roombook:local\$|image: $image|")
# Each Deployment with the revision of it that runs now: where its template stays the same, the one before is not what to go back to.
before=$(kubectl -n "$namespace" get deployments -l app.kubernetes.io/name=roombook \
  -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.annotations.deployment\.kubernetes\.io/revision}{"\n"}{end}')

# back tells why, and returns to what ran before.
back() {
  echo "rollout: $1; going back" >&2
  kubectl -n "$namespace" get pods -l app.kubernetes.io/name=roombook >&2 || true
  while read -r former revision; do
    [[ -z $former ]] || kubectl -n "$namespace" rollout undo "deployment/$former" --to-revision="$revision" || true # the others all the same
  done <<<"$before"
  while read -r former _; do
    [[ -z $former ]] || kubectl -n "$namespace" rollout status "deployment/$former" --timeout="$timeout"
  done <<<"$before"
  exit 1
}

# The field manager owns what it sets, so that what an autoscaler sets stays. It takes over what a person has applied, and what going back
# has set, which would be conflicts for ever.
kubectl apply --server-side --force-conflicts --field-manager=roombook-rollout -f - <<<"$manifests" || back "the cluster refuses a part of it"

deployments=$(kubectl -n "$namespace" get deployments -l app.kubernetes.io/name=roombook -o name)
for deployment in $deployments; do
  kubectl -n "$namespace" rollout status "$deployment" --timeout="$timeout" || back "$deployment did not come up with $image"
done
echo "rollout: $image is running"
