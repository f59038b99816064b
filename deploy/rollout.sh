#!/usr/bin/env bash
# Rolls an image out to the cluster that kubectl is set up for, waits until every Deployment has it, and goes back to the former one if one
# does not come up:
#
#   deploy/rollout.sh REGISTRY/roombook@sha256:… [OVERLAY]
#
# OVERLAY is a folder of deploy/kubernetes/overlays, production by default. ROLLOUT_TIMEOUT is how long to wait for each Deployment, 5m by
# default.
set -euo pipefail

image=${1:?name the image by its digest}
overlay=${2:-production}
namespace=roombook
timeout=${ROLLOUT_TIMEOUT:-5m}
[[ $image == *@sha256:* ]] || { echo "rollout: $image is not named by its digest" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)

manifests=$(kubectl kustomize "$here/kubernetes/overlays/$overlay" | sed "s|image: roombook:local\$|image: $image|")
before=$(kubectl -n "$namespace" get deployments -l app.kubernetes.io/name=roombook -o name)

# The field manager owns what it sets, so that what an autoscaler sets stays.
kubectl apply --server-side --field-manager=roombook-rollout -f - <<<"$manifests"

deployments=$(kubectl -n "$namespace" get deployments -l app.kubernetes.io/name=roombook -o name)
for deployment in $deployments; do
  if ! kubectl -n "$namespace" rollout status "$deployment" --timeout="$timeout"; then
    echo "rollout: $deployment did not come up with $image; going back" >&2
    kubectl -n "$namespace" get pods -l app.kubernetes.io/name=roombook >&2 || true
    for former in $before; do
      kubectl -n "$namespace" rollout undo "$former"
    done
    for former in $before; do
      kubectl -n "$namespace" rollout status "$former" --timeout="$timeout"
    done
    exit 1
  fi
done
echo "rollout: $image is running"
