package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/scale"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/utils/ptr"
)

const namespace = "roombook"

// load is what the pods of the api use, in thousandths of a processor each, and for how many seconds the lists have lacked events.
type load struct {
	client kubernetes.Interface
	cpu    atomic.Int64
	behind atomic.Int64
}

// GetResourceMetric implements [metrics.MetricsClient].
func (l *load) GetResourceMetric(ctx context.Context, _ core.ResourceName, namespace string, selector labels.Selector, _ string) (metrics.PodMetricsInfo, time.Time, error) {
	pods, err := l.client.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, time.Time{}, err
	}
	now, all := time.Now(), metrics.PodMetricsInfo{}
	for _, p := range pods.Items {
		all[p.Name] = metrics.PodMetric{Timestamp: now, Window: time.Minute, Value: l.cpu.Load()}
	}
	return all, now, nil
}

// GetExternalMetric implements [metrics.MetricsClient].
func (l *load) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	return []int64{1000 * l.behind.Load()}, time.Now(), nil
}

var errNoMetric = errors.New("no autoscaler of ours asks for this")

// GetRawMetric implements [metrics.MetricsClient].
func (*load) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errNoMetric
}

// GetObjectMetric implements [metrics.MetricsClient].
func (*load) GetObjectMetric(string, string, *autoscaling.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errNoMetric
}

// startControllers runs those of Kubernetes' controllers that the manifests are for, until the end of the test.
func startControllers(t *testing.T, config *rest.Config, a *applier, l *load) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	client := l.client
	l.cpu.Store(10)
	scales, err := scale.NewForConfig(config, a.mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(client.Discovery()))
	if err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(client, 0)
	core, sets := f.Core().V1(), f.Apps().V1()
	deployments, err := deployment.NewDeploymentController(ctx, sets.Deployments(), sets.ReplicaSets(), core.Pods(), client)
	if err != nil {
		t.Fatal(err)
	}
	replicas := replicaset.NewReplicaSetController(ctx, sets.ReplicaSets(), core.Pods(), client, replicaset.BurstReplicas)
	budgets := disruption.NewDisruptionController(ctx, core.Pods(), f.Policy().V1().PodDisruptionBudgets(), core.ReplicationControllers(),
		sets.ReplicaSets(), sets.Deployments(), sets.StatefulSets(), client, a.mapper, scales, client.Discovery())
	const tolerance = 0.1
	scalers := podautoscaler.NewHorizontalController(ctx, client.CoreV1(), scales, client.AutoscalingV2(), a.mapper, l,
		f.Autoscaling().V2().HorizontalPodAutoscalers(), core.Pods(), time.Second, 5*time.Minute, tolerance, 0, 0)
	jobs, err := cronjob.NewControllerV2(ctx, f.Batch().V1().Jobs(), f.Batch().V1().CronJobs(), client)
	if err != nil {
		t.Fatal(err)
	}
	once, err := job.NewController(ctx, client, core.Pods(), f.Batch().V1().Jobs(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	states := statefulset.NewStatefulSetController(ctx, core.Pods(), sets.StatefulSets(), core.PersistentVolumeClaims(), sets.ControllerRevisions(), client)
	f.Start(ctx.Done())
	go deployments.Run(ctx, 2)
	go replicas.Run(ctx, 2)
	go budgets.Run(ctx)
	go scalers.Run(ctx, 2)
	go jobs.Run(ctx, 2)
	go once.Run(ctx, 2)
	go states.Run(ctx, 2)
	go keepReady(ctx, client)
}

// keepReady does for the test what a node does: it makes every pod ready, or runs the containers that come before the others, up to the one that waits for what is sent to it.
func keepReady(ctx context.Context, client kubernetes.Interface) {
	for ctx.Err() == nil {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{})
		if err == nil {
			for _, p := range pods.Items {
				if p.Status.Phase != core.PodPending || p.Spec.Containers[0].Image == broken && p.Labels["app.kubernetes.io/component"] == "api" {
					continue
				}
				now := meta.Now()
				if before := p.Spec.InitContainers; len(before) > 0 {
					if len(p.Status.InitContainerStatuses) > 0 {
						continue
					}
					waits := slices.IndexFunc(before, func(c core.Container) bool { return c.Stdin })
					for _, c := range before[:waits] {
						p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, core.ContainerStatus{Name: c.Name, State: core.ContainerState{Terminated: &core.ContainerStateTerminated{}}})
					}
					p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, core.ContainerStatus{Name: before[waits].Name, State: core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: now}}})
					_, _ = client.CoreV1().Pods(namespace).UpdateStatus(ctx, &p, meta.UpdateOptions{})
					continue
				}
				p.Status.Phase, p.Status.StartTime = core.PodRunning, &now
				p.Status.Conditions = []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue, LastTransitionTime: now}}
				_, _ = client.CoreV1().Pods(namespace).UpdateStatus(ctx, &p, meta.UpdateOptions{}) // else the next time
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// controllers lets Kubernetes' controllers work on the production overlay, which has been applied.
func controllers(t *testing.T, client kubernetes.Interface, a *applier, l *load) {
	scaleByKEDA(t, a, client)
	replicas := func(name string, want int32) {
		t.Helper()
		await(t, fmt.Sprintf("%s with %d replicas", name, want), func() error {
			d, err := client.AppsV1().Deployments(namespace).Get(t.Context(), name, meta.GetOptions{})
			if err == nil && (*d.Spec.Replicas != want || d.Status.ReadyReplicas != want || d.Status.ObservedGeneration != d.Generation) {
				err = fmt.Errorf("it has %+v", d.Status)
			}
			return err
		})
	}
	replicas("roombook-api", 1)
	replicas("roombook-recovery", 2)
	replicas("roombook-dispatch", 2)
	replicas("roombook-projections", 2)
	owned(t, client)

	// Each pod uses two and a half times of what it asks for, as in the first version's load test; then next to nothing.
	l.cpu.Store(625)
	replicas("roombook-api", 10)
	budget(t, client, "roombook-api", 10)
	l.behind.Store(60)
	replicas("roombook-projections", 4)

	// It goes down after five minutes, and one pod a minute, which would take longer than all else.
	scaler, err := client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(t.Context(), "roombook-api", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if window := scaler.Spec.Behavior.ScaleDown.StabilizationWindowSeconds; *window != 300 {
		t.Errorf("it goes down after %d s", *window)
	}
	l.cpu.Store(10)
	await(t, "another window", func() error {
		scaler, err := client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(t.Context(), "roombook-api", meta.GetOptions{})
		if err != nil {
			return err
		}
		scaler.Spec.Behavior.ScaleDown = &autoscaling.HPAScalingRules{
			StabilizationWindowSeconds: ptr.To[int32](0),
			Policies:                   []autoscaling.HPAScalingPolicy{{Type: autoscaling.PercentScalingPolicy, Value: 100, PeriodSeconds: 1}},
		}
		_, err = client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Update(t.Context(), scaler, meta.UpdateOptions{})
		return err
	})
	replicas("roombook-api", 1)
	nightly(t, client)
}

// scaleByKEDA does for the test what KEDA's operator does: it makes the autoscaler of the ScaledObject, by a metric that KEDA serves for it.
func scaleByKEDA(t *testing.T, a *applier, client kubernetes.Interface) {
	t.Helper()
	scaled := a.client.Resource(schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}).Namespace(namespace)
	stored, err := scaled.Get(t.Context(), "roombook-projections", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		Spec struct {
			ScaleTargetRef                   struct{ Name string }
			MinReplicaCount, MaxReplicaCount int32
			Triggers                         []struct {
				Type       string
				MetricType autoscaling.MetricTargetType
				Metadata   map[string]string
			}
			Advanced struct {
				HorizontalPodAutoscalerConfig struct {
					Name     string
					Behavior *autoscaling.HorizontalPodAutoscalerBehavior
				}
			}
		}
	}
	text, err := stored.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	hpa := o.Spec.Advanced.HorizontalPodAutoscalerConfig
	scaler := &autoscaling.HorizontalPodAutoscaler{ObjectMeta: meta.ObjectMeta{Name: hpa.Name}, Spec: autoscaling.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: o.Spec.ScaleTargetRef.Name},
		MinReplicas:    &o.Spec.MinReplicaCount, MaxReplicas: o.Spec.MaxReplicaCount, Behavior: hpa.Behavior,
	}}
	for i, trigger := range o.Spec.Triggers {
		threshold, err := resource.ParseQuantity(trigger.Metadata["threshold"])
		if err != nil || trigger.MetricType != autoscaling.AverageValueMetricType {
			t.Fatalf("trigger %d: %v, %s", i, err, trigger.MetricType)
		}
		scaler.Spec.Metrics = append(scaler.Spec.Metrics, autoscaling.MetricSpec{Type: autoscaling.ExternalMetricSourceType, External: &autoscaling.ExternalMetricSource{
			Metric: autoscaling.MetricIdentifier{Name: fmt.Sprintf("s%d-%s", i, trigger.Type), Selector: &meta.LabelSelector{MatchLabels: map[string]string{"scaledobject.keda.sh/name": stored.GetName()}}},
			Target: autoscaling.MetricTarget{Type: trigger.MetricType, AverageValue: &threshold},
		}})
	}
	if _, err := client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(t.Context(), scaler, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// owned looks whether each Deployment has made a ReplicaSet of its own.
func owned(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	sets, err := client.AppsV1().ReplicaSets(namespace).List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for _, s := range sets.Items {
		if owner := meta.GetControllerOf(&s); owner != nil && owner.Kind == "Deployment" {
			of[owner.Name]++
		}
	}
	deployments, err := client.AppsV1().Deployments(namespace).List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range deployments.Items {
		if of[d.Name] == 0 || !available(d) {
			t.Errorf("%s has %d ReplicaSets and is %+v", d.Name, of[d.Name], d.Status.Conditions)
		}
	}
}

func available(d apps.Deployment) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == apps.DeploymentAvailable {
			return c.Status == core.ConditionTrue
		}
	}
	return false
}

// budget waits until a budget counts the pods and allows one of them to go.
func budget(t *testing.T, client kubernetes.Interface, name string, pods int32) {
	t.Helper()
	await(t, "the budget of "+name, func() error {
		b, err := client.PolicyV1().PodDisruptionBudgets(namespace).Get(t.Context(), name, meta.GetOptions{})
		if err == nil && (b.Status.ExpectedPods != pods || b.Status.CurrentHealthy != pods || b.Status.DisruptionsAllowed != 1) {
			err = fmt.Errorf("it counts %+v", b.Status)
		}
		return err
	})
}

// nightly lets the CronJob be due, and waits for its Job.
func nightly(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	await(t, "a CronJob that is due", func() error {
		c, err := client.BatchV1().CronJobs(namespace).Get(t.Context(), "roombook-verify", meta.GetOptions{})
		if err != nil {
			return err
		}
		c.Status.LastScheduleTime = ptr.To(meta.NewTime(time.Now().Add(-25 * time.Hour)))
		_, err = client.BatchV1().CronJobs(namespace).UpdateStatus(t.Context(), c, meta.UpdateOptions{})
		return err
	})
	await(t, "its Job", func() error {
		jobs, err := client.BatchV1().Jobs(namespace).List(t.Context(), meta.ListOptions{})
		if err != nil {
			return err
		}
		for _, j := range jobs.Items {
			if owner := meta.GetControllerOf(&j); owner != nil && owner.Kind == "CronJob" {
				if args := j.Spec.Template.Spec.Containers[0].Args; args[0] != "verify" {
					t.Errorf("it runs %v", args)
				}
				return nil
			}
		}
		return fmt.Errorf("there are %d others", len(jobs.Items))
	})
}
