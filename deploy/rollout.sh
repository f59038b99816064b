#!/usr/bin/env bash
# Rolls an image out to the cluster that kubectl is set up for, in the order in which a newer version can work beside an older one: the roles
# that follow the log, and, once they run, the api; the nightly check is last. If a step fails, every Deployment goes back to the revision
# that ran before, the api first:
#
#   deploy/rollout.sh REGISTRY/roombook@sha256:… [OVERLAY]
#
# A roll-out that meets another one is refused. The ConfigMap roombook-rollout says which is under way; one that is killed leaves it behind.
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
[[ $manifests == *"image: $image"* ]] || { echo "rollout: the overlay $overlay names another image than roombook:local, which $image would be put in place of" >&2; exit 2; }

# One at a time: the stages of two would mix, and one that goes back would take the other along.
kubectl -n "$namespace" create configmap roombook-rollout --from-literal=image="$image" --from-literal=by="$(id -un) on $(hostname)" >/dev/null || {
  holder=$(kubectl -n "$namespace" get configmap roombook-rollout -o jsonpath='of {.data.image} by {.data.by} since {.metadata.creationTimestamp}') || exit 1
  echo "rollout: a roll-out $holder is under way: start this one again when it is done, or if it was killed, after: kubectl -n $namespace delete configmap roombook-rollout" >&2
  exit 1
}
trap 'kubectl -n "$namespace" delete configmap roombook-rollout >/dev/null' EXIT

# Each Deployment with the revision of it that runs now: where its template stays the same, the one before is not what to go back to.
before=$(kubectl -n "$namespace" get deployments -l app.kubernetes.io/name=roombook \
  -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.annotations.deployment\.kubernetes\.io/revision}{"\n"}{end}')

# back tells why, and returns to what ran before.
back() {
  echo "rollout: $1; going back" >&2
  kubectl -n "$namespace" get pods -l app.kubernetes.io/name=roombook >&2 || true
  for component in api dispatch recovery projections; do
    revision=$(sed -n "s/^roombook-$component //p" <<<"$before")
    if [[ -z $revision ]]; then
      echo "rollout: roombook-$component did not run before, and is left as it is" >&2
      continue
    fi
    # The others all the same, if one fails.
    kubectl -n "$namespace" rollout undo "deployment/roombook-$component" --to-revision="$revision" &&
      kubectl -n "$namespace" rollout status "deployment/roombook-$component" --timeout="$timeout" ||
      echo "rollout: roombook-$component has not come back to revision $revision" >&2
  done
  exit 1
}

# The field manager owns what it sets, so that what an autoscaler sets stays. It takes over what a person has applied, and what going back
# has set, which would be conflicts for ever.
apply() {
  kubectl apply --server-side --force-conflicts --field-manager=roombook-rollout -l "$1" -f - <<<"$manifests" || back "the cluster refuses a part of it"
}

# stage rolls out some roles, and waits for them.
stage() {
  local IFS=,
  apply "app.kubernetes.io/component in ($*)"
  for component in "$@"; do
    kubectl -n "$namespace" rollout status "deployment/roombook-$component" --timeout="$timeout" ||
      back "roombook-$component did not come up with $image"
  done
}

apply '!app.kubernetes.io/component'
stage projections recovery dispatch
stage api
apply 'app.kubernetes.io/component=verify'
echo "rollout: $image is running"
