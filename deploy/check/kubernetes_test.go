package check

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	mesh "istio.io/api/mesh/v1alpha1"
	networkingistio "istio.io/api/networking/v1"
	securityistio "istio.io/api/security/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// folders are those that are applied to a cluster.
func folders(dir string) (all []string, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, "kubernetes", "overlays"))
	for _, e := range entries {
		all = append(all, filepath.Join("overlays", e.Name()))
	}
	return append(all, "setup", "restore", "import"), err
}

// manifests are the objects of an overlay.
type manifests struct {
	faults
	overlay      string
	pods         map[string]core.PodTemplateSpec // by kind and name
	targets      map[string]bool                 // what can be scaled
	services     []core.Service
	configs      map[string]core.ConfigMap
	disruptions  []policy.PodDisruptionBudget
	scalers      []autoscaling.HorizontalPodAutoscaler
	gatewayPaths map[string][]string // of each kind of gateway
	policies     []networking.NetworkPolicy
	monitors     []monitoring.ServiceMonitor
	routes       map[string]map[string]int32       // ports of the services that gateways send to
	mesh         *securityistio.PeerAuthentication // nil where pods get no sidecar
	scaled       []scaledObject
	claims       []string // of volumes, that the pods of StatefulSets have
}

// istio is an object of Istio. Its specification is decoded by protojson, since its own types accept fields that they do not know.
type istio struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            any `json:"spec"`
}

// scaledObject is an object of KEDA, as far as it is used. Its definition in full is what the API server checks it with.
type scaledObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		PollingInterval int32 `json:"pollingInterval"`
		Triggers        []struct {
			Type       string            `json:"type"`
			MetricType string            `json:"metricType"`
			Metadata   map[string]string `json:"metadata"`
		} `json:"triggers"`
		Advanced struct {
			HorizontalPodAutoscalerConfig struct {
				Name     string                                       `json:"name"`
				Behavior *autoscaling.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
	} `json:"spec"`
}

func build(dir, overlay string) *manifests {
	m := &manifests{overlay: overlay, pods: map[string]core.PodTemplateSpec{}, targets: map[string]bool{}, configs: map[string]core.ConfigMap{}, gatewayPaths: map[string][]string{}}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(dir, "kubernetes", overlay))
	if err != nil {
		m.add("%s: %v", overlay, err)
		return m
	}
	for _, o := range objects.Resources() {
		text, err := o.AsYAML()
		if err != nil {
			m.add("%s: %v", overlay, err)
			continue
		}
		m.decode(o.GetKind(), o.GetName(), text)
	}
	return m
}

func (m *manifests) decode(kind, name string, text []byte) {
	strictly := func(into any) {
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			m.add("%s: %s %s: %v", m.overlay, kind, name, err)
		}
	}
	specification := func(into proto.Message) {
		var o istio
		strictly(&o)
		spec, err := yaml.Marshal(o.Spec)
		if err == nil {
			spec, err = yaml.YAMLToJSON(spec)
		}
		if err == nil {
			err = protojson.Unmarshal(spec, into)
		}
		if err != nil {
			m.add("%s: %s %s: %v", m.overlay, kind, name, err)
		}
	}
	switch kind {
	case "Deployment":
		var o apps.Deployment
		strictly(&o)
		m.pods[kind+" "+name], m.targets[name] = o.Spec.Template, true
		m.selects(kind+" "+name, o.Spec.Selector, o.Spec.Template.Labels)
	case "StatefulSet":
		var o apps.StatefulSet
		strictly(&o)
		m.pods[kind+" "+name], m.targets[name] = o.Spec.Template, true
		m.selects(kind+" "+name, o.Spec.Selector, o.Spec.Template.Labels)
		for _, claim := range o.Spec.VolumeClaimTemplates {
			m.claims = append(m.claims, claim.Name+"-"+name+"-0")
			o.Spec.Template.Spec.Volumes = append(o.Spec.Template.Spec.Volumes, core.Volume{Name: claim.Name})
		}
		m.pods[kind+" "+name] = o.Spec.Template
	case "CronJob":
		var o batch.CronJob
		strictly(&o)
		m.pods[kind+" "+name] = o.Spec.JobTemplate.Spec.Template
	case "Job":
		var o batch.Job
		strictly(&o)
		m.pods[kind+" "+name] = o.Spec.Template
	case "Service":
		var o core.Service
		strictly(&o)
		m.services = append(m.services, o)
	case "ConfigMap":
		var o core.ConfigMap
		strictly(&o)
		m.configs[name] = o
	case "ServiceAccount":
		strictly(new(core.ServiceAccount))
	case "Namespace":
		strictly(new(core.Namespace))
	case "Role":
		strictly(new(rbac.Role))
	case "RoleBinding":
		strictly(new(rbac.RoleBinding))
	case "NetworkPolicy":
		var o networking.NetworkPolicy
		strictly(&o)
		m.policies = append(m.policies, o)
	case "PodDisruptionBudget":
		var o policy.PodDisruptionBudget
		strictly(&o)
		m.disruptions = append(m.disruptions, o)
	case "HorizontalPodAutoscaler":
		var o autoscaling.HorizontalPodAutoscaler
		strictly(&o)
		m.scalers = append(m.scalers, o)
	case "Ingress":
		var o networking.Ingress
		strictly(&o)
		for _, rule := range o.Spec.Rules {
			for _, p := range rule.HTTP.Paths {
				m.gatewayPaths[kind] = append(m.gatewayPaths[kind], p.Path)
				m.routed(kind, p.Backend.Service.Name, p.Backend.Service.Port.Name, p.Backend.Service.Port.Number)
			}
		}
	case "HTTPRoute":
		var o gateway.HTTPRoute
		strictly(&o)
		for _, rule := range o.Spec.Rules {
			for _, match := range rule.Matches {
				m.gatewayPaths[kind] = append(m.gatewayPaths[kind], *match.Path.Value)
			}
			for _, b := range rule.BackendRefs {
				m.routed(kind, string(b.Name), "", *b.Port)
			}
		}
	case "PrometheusRule":
		strictly(new(monitoring.PrometheusRule))
	case "ScaledObject":
		var o scaledObject
		strictly(&o)
		m.scaled = append(m.scaled, o)
	case "ServiceMonitor":
		var o monitoring.ServiceMonitor
		strictly(&o)
		m.monitors = append(m.monitors, o)
	case "VirtualService":
		var spec networkingistio.VirtualService
		specification(&spec)
		for _, rule := range spec.Http {
			for _, match := range rule.Match {
				m.gatewayPaths[kind] = append(m.gatewayPaths[kind], match.Uri.GetPrefix()+match.Uri.GetExact())
				for _, inside := range []string{"/metrics", "/healthz", "/readyz", "/actuator", "/version", "/debug"} {
					if prefix := match.Uri.GetPrefix(); prefix != "" && strings.HasPrefix(inside, prefix) { // of letters, not of segments
						m.add("%s: %s: as a prefix, %s lets %s through", m.overlay, kind, prefix, inside)
					}
				}
			}
			for _, r := range rule.Route {
				m.routed(kind, r.Destination.Host, "", int32(r.Destination.Port.GetNumber()))
			}
		}
	case "DestinationRule":
		specification(new(networkingistio.DestinationRule))
	case "PeerAuthentication":
		m.mesh = new(securityistio.PeerAuthentication)
		specification(m.mesh)
	default:
		m.add("%s: what is %s %s?", m.overlay, kind, name)
	}
}

// routed remembers that a gateway sends to a port of a service, by name or number.
func (m *manifests) routed(kind, service, port string, number int32) {
	if m.routes == nil {
		m.routes = map[string]map[string]int32{}
	}
	if m.routes[service] == nil {
		m.routes[service] = map[string]int32{}
	}
	m.routes[service][kind+" "+port] = number
}

func (m *manifests) selects(what string, selector *meta.LabelSelector, of map[string]string) {
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil || !s.Matches(labels.Set(of)) {
		m.add("%s: %s selects %s, and its pods have %v: %v", m.overlay, what, s, of, err)
	}
}

// selected are the pods that a selector matches.
func (m *manifests) selected(selector labels.Selector) (names []string) {
	for name, pod := range m.pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			names = append(names, name)
		}
	}
	return names
}

func checkKubernetes(dir string, p *program) []string {
	all, err := folders(dir)
	if err != nil {
		return []string{err.Error()}
	}
	var f faults
	claims := build(dir, "overlays/local").claims
	for _, overlay := range all {
		m := build(dir, overlay)
		m.claims = append(m.claims, claims...)
		for name, pod := range m.pods {
			m.checkPod(p, name, pod)
		}
		m.checkServices()
		m.checkMonitoring()
		m.checkScaling(p)
		m.checkGateways(p)
		f = append(f, m.faults...)
	}
	return f
}

func (m *manifests) checkPod(p *program, name string, pod core.PodTemplateSpec) {
	wrong := func(format string, args ...any) {
		m.add("%s: %s: %s", m.overlay, name, fmt.Sprintf(format, args...))
	}
	s := pod.Spec.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		wrong("it may run as root or without a seccomp profile")
	}
	for _, v := range pod.Spec.Volumes {
		if claim := v.PersistentVolumeClaim; claim != nil && !slices.Contains(m.claims, claim.ClaimName) {
			wrong("no pod has the volume %s", claim.ClaimName)
		}
	}
	once, scheduled := strings.HasPrefix(name, "Job "), strings.HasPrefix(name, "CronJob ") && m.mesh != nil
	if (once || scheduled) && pod.Labels["sidecar.istio.io/inject"] != "false" {
		wrong("its sidecar may keep it from ending")
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem ||
			c.SecurityContext.Capabilities == nil || !slices.Contains(c.SecurityContext.Capabilities.Drop, "ALL") {
			wrong("it may write to its image or has capabilities")
		}
		for _, v := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(have core.Volume) bool { return have.Name == v.Name }) {
				wrong("there is no volume %s", v.Name)
			}
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			wrong("%s does not say what it needs", c.Name)
		}
		if !strings.HasPrefix(c.Image, "roombook:") {
			if !pinned.MatchString(c.Image) {
				wrong("it has the image %s, which is not pinned to a version", c.Image)
			}
			continue
		}
		m.checkCommand(m.overlay+": "+name, p, c.Args)
		environment := m.environment(wrong, c)
		for variable, value := range environment {
			if !p.variables[variable] && variable != "GOMEMLIMIT" {
				wrong("no flag is set by %s", variable)
			}
			if password.MatchString(value) {
				wrong("%s has a password", variable)
			}
		}
		for _, role := range strings.Split(environment["ROOMBOOK_ROLES"], ",") {
			if role != "" && !strings.Contains(p.source, `= "`+role+`"`) {
				wrong("the program has no role %s", role)
			}
		}
		m.checkMemory(wrong, c, environment["GOMEMLIMIT"])
		if len(c.Args) == 0 || c.Args[0] != "serve" {
			continue
		}
		for variable, port := range map[string]string{"ROOMBOOK_LISTEN": "http", "ROOMBOOK_ADMIN_LISTEN": "admin"} {
			_, number, _ := strings.Cut(environment[variable], ":")
			if port := portOf(c, port); number == "" || number != strconv.Itoa(int(port)) {
				wrong("%s is %q, and the port %d", variable, environment[variable], port)
			}
		}
		if roles := environment["ROOMBOOK_ROLES"]; roles == "" || strings.Contains(roles, "dispatch") {
			for _, port := range []int{25, 465, 587} {
				if !m.letsOut(pod, port) {
					wrong("it sends mail, and no policy lets it out to port %d", port)
				}
			}
		}
		for _, network := range strings.Split(environment["ROOMBOOK_TRUSTED_PROXIES"], ",") {
			if _, err := netip.ParsePrefix(network); err != nil {
				wrong("links have the gateway's https only if its networks are trusted: %v", err)
			}
		}
		if m.mesh != nil {
			var proxy mesh.ProxyConfig
			text, err := yaml.YAMLToJSON([]byte(pod.Annotations["proxy.istio.io/config"]))
			if err == nil {
				err = protojson.Unmarshal(text, &proxy)
			}
			if err != nil || !proxy.HoldApplicationUntilProxyStarts.GetValue() || proxy.ProxyMetadata["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"] != "true" {
				wrong("its sidecar may start after it, or stop before it: %v", err)
			}
		}
		m.checkProbes(p, wrong, c)
		m.checkGrace(wrong, pod, c, environment["ROOMBOOK_REQUEST_TIMEOUT"])
	}
}

var password = regexp.MustCompile(`://[^/@]*:[^/@]+@`)

// environment is what the container gets, with empty values for secrets.
func (m *manifests) environment(wrong func(string, ...any), c core.Container) map[string]string {
	all := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			wrong("its environment is from something else than a ConfigMap")
			continue
		}
		config, ok := m.configs[from.ConfigMapRef.Name]
		if !ok {
			wrong("there is no ConfigMap %s", from.ConfigMapRef.Name)
		}
		for name, value := range config.Data {
			all[name] = value
		}
	}
	for _, e := range c.Env {
		all[e.Name] = e.Value
		if sensitive := e.Name == "ROOMBOOK_EVENTSTORE" || e.Name == "ROOMBOOK_MONGO"; sensitive && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
			wrong("%s is not from a secret", e.Name)
		}
	}
	return all
}

// checkMemory looks whether Go's limit of memory leaves a tenth of the container's to what Go does not count.
func (m *manifests) checkMemory(wrong func(string, ...any), c core.Container, limit string) {
	mebibytes, err := strconv.ParseInt(strings.TrimSuffix(limit, "MiB"), 10, 64)
	have := c.Resources.Limits.Memory().Value()
	if err != nil || float64(mebibytes<<20) < 0.85*float64(have) || float64(mebibytes<<20) > 0.95*float64(have) {
		wrong("GOMEMLIMIT is %q of %s", limit, c.Resources.Limits.Memory())
	}
}

// portOf is the number of a container's port, 0 if it has none of that name.
func portOf(c core.Container, name string) int32 {
	for _, port := range c.Ports {
		if port.Name == name {
			return port.ContainerPort
		}
	}
	return 0
}

// policiesOf are the network policies of a pod.
func (m *manifests) policiesOf(pod core.PodTemplateSpec) (all []networking.NetworkPolicy) {
	for _, n := range m.policies {
		if selector, err := meta.LabelSelectorAsSelector(&n.Spec.PodSelector); err == nil && selector.Matches(labels.Set(pod.Labels)) {
			all = append(all, n)
		}
	}
	return all
}

// letsOut reports whether the pod may call a port of any machine.
func (m *manifests) letsOut(pod core.PodTemplateSpec, port int) bool {
	for _, n := range m.policiesOf(pod) {
		for _, rule := range n.Spec.Egress {
			for _, p := range rule.Ports {
				if len(rule.To) == 0 && p.Port.IntValue() == port {
					return true
				}
			}
		}
	}
	return false
}

func (m *manifests) checkProbes(p *program, wrong func(string, ...any), c core.Container) {
	for kind, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			wrong("there is no %s probe", kind)
			continue
		}
		if port := probe.HTTPGet.Port; !slices.ContainsFunc(c.Ports, func(have core.ContainerPort) bool {
			return have.Name == port.StrVal || have.ContainerPort == port.IntVal
		}) {
			wrong("the %s probe is for port %v", kind, &port)
		}
		if status, err := p.call("GET", probe.HTTPGet.Path, ""); err != nil || status != 200 {
			wrong("the %s probe asks for %s, which answers %d, %v", kind, probe.HTTPGet.Path, status, err)
		}
		if kind == "liveness" && strings.TrimSuffix(probe.HTTPGet.Path, "/") == "/actuator/health" {
			wrong("the liveness probe fails if the event store is away")
		}
		if probe.TimeoutSeconds != 2 || kind != "startup" && probe.PeriodSeconds != 5 {
			wrong("the %s probe has not the first version's timing", kind)
		}
	}
}

// drain is what the program takes at most to stop, besides the time for a request: see api.Options.DrainTimeout and flushTimeout.
const drain = 10*time.Second + 5*time.Second

func (m *manifests) checkGrace(wrong func(string, ...any), pod core.PodTemplateSpec, c core.Container, request string) {
	timeout, err := time.ParseDuration(request)
	if err != nil {
		wrong("ROOMBOOK_REQUEST_TIMEOUT: %v", err)
		return
	}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		wrong("it stops before proxies know")
		return
	}
	needed := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + timeout + drain
	if given := pod.Spec.TerminationGracePeriodSeconds; given == nil || time.Duration(*given)*time.Second < needed {
		wrong("it has %v to stop, and needs %s", given, needed)
	}
}

func (m *manifests) checkServices() {
	for _, s := range m.services {
		if s.Spec.Type != core.ServiceTypeClusterIP && s.Spec.Type != "" {
			m.add("%s: Service %s is of type %s: only the gateway is outside", m.overlay, s.Name, s.Spec.Type)
		}
		pods := m.selected(labels.SelectorFromSet(s.Spec.Selector))
		if len(pods) == 0 {
			m.add("%s: Service %s selects no pod", m.overlay, s.Name)
		}
		for _, port := range s.Spec.Ports {
			for _, name := range pods {
				for _, c := range m.pods[name].Spec.Containers {
					if len(c.Ports) > 0 && !slices.ContainsFunc(c.Ports, func(have core.ContainerPort) bool { return have.Name == port.TargetPort.StrVal }) {
						m.add("%s: Service %s is for port %s, which %s has not", m.overlay, s.Name, &port.TargetPort, name)
					}
				}
			}
		}
	}
	for service, ports := range m.routes {
		at := slices.IndexFunc(m.services, func(s core.Service) bool { return s.Name == service })
		if at < 0 {
			m.add("%s: a gateway sends to Service %s, which is not there", m.overlay, service)
			continue
		}
		for from, number := range ports {
			_, name, _ := strings.Cut(from, " ")
			if !slices.ContainsFunc(m.services[at].Spec.Ports, func(p core.ServicePort) bool { return p.Name == name || p.Port == number }) {
				m.add("%s: %s: Service %s has no port %q or %d", m.overlay, from, service, name, number)
			}
		}
	}
	for _, monitor := range m.monitors {
		selector, err := meta.LabelSelectorAsSelector(&monitor.Spec.Selector)
		if err != nil {
			m.add("%s: ServiceMonitor: %v", m.overlay, err)
		}
		at := slices.IndexFunc(m.services, func(s core.Service) bool { return selector.Matches(labels.Set(s.Labels)) })
		for _, e := range monitor.Spec.Endpoints {
			if at < 0 || !slices.ContainsFunc(m.services[at].Spec.Ports, func(p core.ServicePort) bool { return p.Name == e.Port }) {
				m.add("%s: ServiceMonitor %s finds no port %s", m.overlay, monitor.Name, e.Port)
			}
		}
	}
	for _, n := range m.policies {
		selector, err := meta.LabelSelectorAsSelector(&n.Spec.PodSelector)
		if err != nil || len(m.pods) > 0 && len(m.selected(selector)) == 0 {
			m.add("%s: NetworkPolicy %s is for no pod: %v", m.overlay, n.Name, err)
		}
	}
}

// checkMonitoring looks whether Prometheus, which is in another namespace and not in the mesh, reaches what its monitors name, and whether the
// mesh opens nothing else.
func (m *manifests) checkMonitoring() {
	scraped := map[int32]bool{}
	for _, s := range m.services {
		if s.Labels["roombook.example/metrics"] == "" {
			continue
		}
		for _, name := range m.selected(labels.SelectorFromSet(s.Spec.Selector)) {
			pod := m.pods[name]
			for _, c := range pod.Spec.Containers {
				port := portOf(c, s.Spec.Ports[0].TargetPort.StrVal)
				if port == 0 {
					continue // it ends, before it could be scraped
				}
				scraped[port] = true
				if !slices.ContainsFunc(m.policiesOf(pod), func(n networking.NetworkPolicy) bool {
					return slices.ContainsFunc(n.Spec.Ingress, func(rule networking.NetworkPolicyIngressRule) bool {
						return len(rule.From) == 1 && rule.From[0].NamespaceSelector.MatchLabels[core.LabelMetadataName] == "monitoring" &&
							rule.Ports[0].Port.StrVal == s.Spec.Ports[0].TargetPort.StrVal
					})
				}) {
					m.add("%s: %s: no policy lets Prometheus in to port %d", m.overlay, name, port)
				}
				if m.mesh != nil && (m.mesh.PortLevelMtls[uint32(port)].GetMode() != securityistio.PeerAuthentication_MutualTLS_PERMISSIVE ||
					!labels.SelectorFromSet(m.mesh.Selector.GetMatchLabels()).Matches(labels.Set(pod.Labels)) || m.mesh.Selector == nil) {
					m.add("%s: %s: Prometheus is not in the mesh, and cannot scrape port %d", m.overlay, name, port)
				}
			}
		}
	}
	if m.mesh == nil {
		return
	}
	if m.mesh.Mtls.GetMode() != securityistio.PeerAuthentication_MutualTLS_STRICT {
		m.add("%s: others than the mesh may call", m.overlay)
	}
	for port := range m.mesh.PortLevelMtls {
		if !scraped[int32(port)] {
			m.add("%s: others than the mesh may call port %d", m.overlay, port)
		}
	}
}

// scalesSlowly looks whether an autoscaler waits before it goes down.
func (m *manifests) scalesSlowly(what string, b *autoscaling.HorizontalPodAutoscalerBehavior) {
	if b == nil || b.ScaleDown == nil || b.ScaleDown.StabilizationWindowSeconds == nil {
		m.add("%s: %s goes down at once", m.overlay, what)
	}
}

func (m *manifests) checkScaling(p *program) {
	for _, o := range m.scaled {
		if target := o.Spec.ScaleTargetRef.Name; !m.targets[target] {
			m.add("%s: ScaledObject %s is for %s, which is not there", m.overlay, o.Name, target)
		}
		for _, trigger := range o.Spec.Triggers {
			m.checkExpression(fmt.Sprintf("%s: ScaledObject %s", m.overlay, o.Name), trigger.Metadata["query"], p)
		}
		m.scalesSlowly("ScaledObject "+o.Name, o.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior)
	}
	for _, d := range m.disruptions {
		selector, err := meta.LabelSelectorAsSelector(d.Spec.Selector)
		if err != nil || len(m.selected(selector)) != 1 {
			m.add("%s: PodDisruptionBudget %s is for %v: %v", m.overlay, d.Name, m.selected(selector), err)
		}
		if d.Spec.MinAvailable != nil {
			m.add("%s: PodDisruptionBudget %s keeps a single replica from being moved", m.overlay, d.Name)
		}
	}
	for _, s := range m.scalers {
		if target := s.Spec.ScaleTargetRef; !m.targets[target.Name] {
			m.add("%s: HorizontalPodAutoscaler %s is for %s, which is not there", m.overlay, s.Name, target.Name)
		}
		m.scalesSlowly("HorizontalPodAutoscaler "+s.Name, s.Spec.Behavior)
		if s.Name == "roombook-api" {
			cpu := s.Spec.Metrics[0].Resource
			if s.Spec.MinReplicas == nil || *s.Spec.MinReplicas != 1 || s.Spec.MaxReplicas != 10 || cpu == nil || *cpu.Target.AverageUtilization != 50 {
				m.add("%s: the api does not scale from 1 to 10 at 50 %%", m.overlay)
			}
		}
	}
}

// The text of the local overlay says how notifications are mailed: what it has added to the overlay arrives in the pod.
func TestLocalMail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deploy")
	if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kubernetes", "overlays", "local", "kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, added, found := strings.Cut(string(text), "\n#   configMapGenerator:")
	added, _, ends := strings.Cut(added, "\napiVersion:")
	if !found || !ends {
		t.Fatal("it says nothing of mail")
	}
	added = "configMapGenerator:" + strings.ReplaceAll(added, "\n#   ", "\n") + "\n"
	if err := os.WriteFile(file, append(text, added...), 0o600); err != nil {
		t.Fatal(err)
	}
	m := build(dir, "overlays/local")
	pod := m.pods["StatefulSet roombook"]
	m.checkPod(running, "StatefulSet roombook", pod)
	for _, fault := range m.faults {
		t.Error(fault)
	}
	environment := m.environment(t.Errorf, pod.Spec.Containers[0])
	password := environment["ROOMBOOK_SMTP_PASSWORD_FILE"]
	if environment["ROOMBOOK_SMTP"] == "" || environment["ROOMBOOK_MAIL_FROM"] == "" || !slices.ContainsFunc(pod.Spec.Containers[0].VolumeMounts, func(v core.VolumeMount) bool {
		return v.MountPath == filepath.Dir(password)
	}) {
		t.Errorf("the pod has %v", environment)
	}
}

// operators are the paths that stay inside.
var operators = regexp.MustCompile(`^/(metrics|healthz|readyz|actuator|version|debug)`)

// checkGateways looks whether each gateway has the paths of the API and of the page, and no others than the program answers.
func (m *manifests) checkGateways(p *program) {
	if len(m.gatewayPaths) == 0 && strings.HasPrefix(m.overlay, "overlays") {
		m.add("%s: it has no gateway", m.overlay)
	}
	for kind, paths := range m.gatewayPaths {
		for _, path := range paths {
			if operators.MatchString(path) {
				m.add("%s: %s: %s is for operators", m.overlay, kind, path)
			}
			// Not every path has a GET, and some only begin others.
			if slices.Contains(p.routes, path) || slices.Contains(p.paths, path) || slices.Contains(p.screens, path) {
				continue
			}
			if status, err := p.call("GET", path, ""); err != nil || status == 404 {
				m.add("%s: %s: the program does not know %s: %d, %v", m.overlay, kind, path, status, err)
			}
		}
		for _, path := range append(slices.Concat(p.paths, p.screens), "/bookings", "/confirms", "/realuses", "/bookingLists", "/roomUseLists", "/notifications", "/") {
			if !operators.MatchString(path) && !slices.Contains(paths, path) {
				m.add("%s: %s: it does not let %s through", m.overlay, kind, path)
			}
		}
	}
}
