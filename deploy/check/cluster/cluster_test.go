// Package cluster applies the manifests of deploy to a real Kubernetes API server, which runs in the test's process on an etcd of its own.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Modules that have definitions. No package of them is used, so that go.mod does not name them.
const (
	operatorModule = "github.com/prometheus-operator/prometheus-operator@v0.94.0"
	kedaModule     = "github.com/kedacore/keda/v2@v2.21.0"
)

// Tokens of an administrator and of a pipeline, which has the rights of deploy/kubernetes/setup.
const (
	token         = "cluster-test"
	pipelineToken = "pipeline-test"
)

// startCluster runs an API server until the end of the test.
func startCluster(t *testing.T) *rest.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster") // not the test's: it is in use until the process ends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	store := startStore(t, filepath.Join(dir, "etcd"))
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"+pipelineToken+",pipeline,pipeline,roombook-pipeline\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "service-accounts.key")
	if err := os.WriteFile(key, newKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	command := app.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + store, "--secure-port=" + port, "--bind-address=127.0.0.1", "--cert-dir=" + filepath.Join(dir, "certificates"),
		"--token-auth-file=" + tokens, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://cluster.test", "--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--disable-admission-plugins=ServiceAccount",
	})
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(context.Background()) }() // until the process ends: it takes a minute to stop
	config := &rest.Config{Host: "https://127.0.0.1:" + port, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the API server", func() error {
		select {
		case err := <-ended:
			t.Fatalf("the API server ended: %v", err)
		default:
		}
		return client.RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error()
	})
	return config
}

// newKey is a key that signs tokens of service accounts.
func newKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func startStore(t *testing.T, dir string) (address string) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = dir
	c.LogLevel = "error"
	c.UnsafeNoFsync = true
	at := func() []url.URL { return []url.URL{{Scheme: "http", Host: "127.0.0.1:" + freePort(t)}} }
	c.ListenClientUrls, c.ListenPeerUrls = at(), at()
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = c.ListenClientUrls, c.ListenPeerUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	return c.ListenClientUrls[0].String()
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// await waits until a condition holds; how long that may take is for the test's own time limit.
func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// applier applies objects to a cluster.
type applier struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func newApplier(t *testing.T, config *rest.Config) *applier {
	t.Helper()
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &applier{dynamicClient, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))}
}

func (a *applier) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		a.mapper.Reset() // a definition may be new
		if mapping, err = a.mapper.RESTMapping(kind.GroupKind(), kind.Version); err != nil {
			return nil, err
		}
	}
	if o.GetNamespace() != "" {
		return a.client.Resource(mapping.Resource).Namespace(o.GetNamespace()), nil
	}
	return a.client.Resource(mapping.Resource), nil
}

// apply is server-side apply with strict validation, which refuses what the schema does not have.
func (a *applier) apply(ctx context.Context, o *unstructured.Unstructured) error {
	return a.patch(ctx, o)
}

// admits is apply without storing anything.
func (a *applier) admits(ctx context.Context, o *unstructured.Unstructured) error {
	return a.patch(ctx, o, meta.DryRunAll)
}

func (a *applier) patch(ctx context.Context, o *unstructured.Unstructured, dryRun ...string) error {
	to, err := a.resource(o)
	if err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	force := true
	_, err = to.Patch(ctx, o.GetName(), types.ApplyPatchType, text,
		meta.PatchOptions{FieldManager: "test", FieldValidation: "Strict", Force: &force, DryRun: dryRun})
	return err
}

// objects are the objects of an overlay.
func objects(t *testing.T, overlay string) (all []*unstructured.Unstructured) {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", "..", "kubernetes", overlay))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(t, text)...)
	}
	return all
}

// parse are the objects of a file.
func parse(t *testing.T, text []byte) (all []*unstructured.Unstructured) {
	t.Helper()
	for _, document := range bytes.Split(text, []byte("\n---")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			t.Fatal(err)
		}
		if o.GetKind() != "" {
			all = append(all, o)
		}
	}
	return all
}

// definitions are the definitions of custom resources in a module's files.
func definitions(t *testing.T, module, pattern string) (all []*unstructured.Unstructured) {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(out, &at); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(at.Dir, filepath.FromSlash(pattern)))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no %s: %v", module, pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range parse(t, text) {
			if o.GetKind() == "CustomResourceDefinition" {
				all = append(all, o)
			}
		}
	}
	return all
}

// version is that of a module that the tests depend on.
func version(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return module + "@" + strings.TrimSpace(string(out))
}

// TestCluster applies every overlay, strictly, to a namespace where only restricted pods may run. What the schema does not have is refused.
// Then Kubernetes' controllers work on what was applied.
func TestCluster(t *testing.T) {
	config := startCluster(t)
	a := newApplier(t, config)
	crds := append(definitions(t, version(t, "sigs.k8s.io/gateway-api"), "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
		definitions(t, operatorModule, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml")...)
	crds = append(crds, definitions(t, operatorModule, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml")...)
	crds = append(crds, definitions(t, kedaModule, "config/crd/bases/keda.sh_scaledobjects.yaml")...)
	for _, o := range definitions(t, version(t, "istio.io/api"), "kubernetes/customresourcedefinitions.gen.yaml") {
		if group, _, _ := unstructured.NestedString(o.Object, "spec", "group"); group == "networking.istio.io" || group == "security.istio.io" {
			crds = append(crds, o)
		}
	}
	for _, o := range crds {
		if err := a.apply(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", o.GetName(), err)
		}
	}
	crd := a.client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, o := range crds {
		await(t, o.GetName(), func() error {
			now, err := crd.Get(t.Context(), o.GetName(), meta.GetOptions{})
			if err == nil && !strings.Contains(fmt.Sprint(now.Object["status"]), "reason:InitialNamesAccepted status:True type:Established") {
				err = fmt.Errorf("not established: %v", now.Object["status"])
			}
			return err
		})
	}

	for _, overlay := range []string{"setup", "overlays/local", "overlays/production", "overlays/production-istio"} {
		for _, o := range objects(t, overlay) {
			if err := a.apply(t.Context(), o); err != nil {
				t.Errorf("%s: %s %s: %v", overlay, o.GetKind(), o.GetName(), err)
			}
			pod := podOf(o)
			if pod == nil {
				continue
			}
			if err := a.admits(t.Context(), pod); err != nil {
				t.Errorf("%s: the pod of %s %s: %v", overlay, o.GetKind(), o.GetName(), err)
			}
		}
	}
	t.Run("refused", func(t *testing.T) { refused(t, a) })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	// Its pod would be counted among those of the production overlay's api.
	if err := client.AppsV1().StatefulSets(namespace).Delete(t.Context(), "roombook", meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l := &load{client: client}
	startControllers(t, config, a, l)
	t.Run("controllers", func(t *testing.T) { controllers(t, client, a, l) })
	t.Run("rollout", func(t *testing.T) { rollout(t, config, client) })
	for _, o := range objects(t, "overlays/local") {
		if err := a.apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"restore", "import"} {
		t.Run(folder, func(t *testing.T) { guide(t, config, client, folder) })
	}
}

// podOf is a pod as the controller of a workload would make it, or nil: pod security applies to pods only.
func podOf(o *unstructured.Unstructured) *unstructured.Unstructured {
	path := []string{"spec", "template"}
	if o.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	template, found, err := unstructured.NestedMap(o.Object, path...)
	if err != nil || !found {
		return nil
	}
	pod := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": template["metadata"]}}
	pod.SetName(o.GetName() + "-" + strings.ToLower(o.GetKind()))
	pod.SetNamespace(o.GetNamespace())
	if claims, _, _ := unstructured.NestedSlice(o.Object, "spec", "volumeClaimTemplates"); claims != nil {
		volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
		for _, c := range claims {
			name, _, _ := unstructured.NestedString(c.(map[string]any), "metadata", "name")
			volumes = append(volumes, map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name}})
		}
		_ = unstructured.SetNestedSlice(pod.Object, volumes, "spec", "volumes")
	}
	return pod
}

// refused changes one thing at a time in an object of the overlays, and wants it refused.
func refused(t *testing.T, a *applier) {
	for _, broken := range []struct {
		kind, name, words string
		change            func(o map[string]any) error
	}{
		{"Deployment", "roombook-api", "replica", func(o map[string]any) error { return unstructured.SetNestedField(o, int64(3), "spec", "replica") }},
		{"HTTPRoute", "roombook", "hostname", func(o map[string]any) error {
			return unstructured.SetNestedStringSlice(o, []string{"rooms.example"}, "spec", "hostname")
		}},
		{"DestinationRule", "roombook", "consecutiveErrors5xx", func(o map[string]any) error {
			return unstructured.SetNestedField(o, int64(5), "spec", "trafficPolicy", "outlierDetection", "consecutiveErrors5xx")
		}},
		{"ServiceMonitor", "roombook", "interval", func(o map[string]any) error {
			return unstructured.SetNestedSlice(o, []any{map[string]any{"port": "metrics", "interval": "soon"}}, "spec", "endpoints")
		}},
		{"PrometheusRule", "roombook", "group", func(o map[string]any) error {
			return unstructured.SetNestedField(o, int64(3), "spec", "group")
		}},
		{"ScaledObject", "roombook-projections", "stabilisationWindowSeconds", func(o map[string]any) error {
			return unstructured.SetNestedField(o, int64(3), "spec", "advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown", "stabilisationWindowSeconds")
		}},
		{"HorizontalPodAutoscaler", "roombook-api", "maxReplicas", func(o map[string]any) error {
			return unstructured.SetNestedField(o, int64(0), "spec", "maxReplicas")
		}},
		{"CronJob", "roombook-verify", "schedule", func(o map[string]any) error {
			return unstructured.SetNestedField(o, "nightly", "spec", "schedule")
		}},
		{"NetworkPolicy", "roombook", "protocol", func(o map[string]any) error {
			return unstructured.SetNestedSlice(o, []any{map[string]any{"ports": []any{map[string]any{"port": int64(53), "protocol": "HTTP"}}}}, "spec", "egress")
		}},
		{"Pod", "roombook-api-deployment", "violates PodSecurity", func(o map[string]any) error {
			unstructured.RemoveNestedField(o, "spec", "securityContext")
			return unstructured.SetNestedField(o, "another", "metadata", "name")
		}},
	} {
		var found *unstructured.Unstructured
		for _, o := range objects(t, "overlays/production-istio") {
			if pod := podOf(o); pod != nil && broken.kind == "Pod" && pod.GetName() == broken.name {
				found = pod
			}
			if o.GetKind() == broken.kind && o.GetName() == broken.name {
				found = o
			}
		}
		if found == nil {
			t.Errorf("there is no %s %s", broken.kind, broken.name)
			continue
		}
		if err := broken.change(found.Object); err != nil {
			t.Fatal(err)
		}
		if err := a.apply(t.Context(), found); err == nil || !strings.Contains(err.Error(), broken.words) {
			t.Errorf("%s %s with a wrong %s: %v", broken.kind, broken.name, broken.words, err)
		} else {
			t.Logf("%.200s", err.Error())
		}
	}
}
