// What schemas do not say. Each rule has a pod or a set of objects that breaks it, in controls_test.go.
package kubernetes

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	syaml "sigs.k8s.io/yaml"
)

// The newest minor version of Kubernetes that the manifests are held to.
const newest = 37

const repository = "ghcr.io/bearerd/bearerd"

var digest = regexp.MustCompile(`^[^@]+@sha256:[0-9a-f]{64}$`)

type podRule struct {
	name   string
	broken func(pod) []string
}

type objectRule struct {
	name   string
	broken func([]object) []string
}

// Containers and init containers; ephemeral ones are in no manifest.
func (p pod) containers() []corev1.Container {
	spec := p.template.Spec
	return append(append([]corev1.Container{}, spec.InitContainers...), spec.Containers...)
}

func isBearerd(c corev1.Container) bool {
	return c.Name == "bearerd" || strings.HasPrefix(c.Image, repository+"@") || strings.HasPrefix(c.Image, repository+":")
}

// The native sidecar, nil in a pod that has none (the gateway's).
func (p pod) sidecar() *corev1.Container {
	for i, c := range p.template.Spec.InitContainers {
		if isBearerd(c) {
			return &p.template.Spec.InitContainers[i]
		}
	}
	return nil
}

// A problem of a container.
func (p pod) says(c corev1.Container, format string, arguments ...any) string {
	return fmt.Sprintf("%s, container %s: ", p.where, c.Name) + fmt.Sprintf(format, arguments...)
}

var podRules = []podRule{
	{"Pod Security: restricted, from 1.25 to the newest", func(p pod) (problems []string) {
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		if err != nil {
			return []string{err.Error()}
		}
		versions := []api.Version{api.LatestVersion()}
		for minor := 25; minor <= newest; minor++ {
			versions = append(versions, api.MajorMinorVersion(1, minor))
		}
		for _, version := range versions {
			level := api.LevelVersion{Level: api.LevelRestricted, Version: version}
			for _, result := range evaluator.EvaluatePod(level, &p.template.ObjectMeta, &p.template.Spec) {
				if !result.Allowed {
					problems = append(problems, fmt.Sprintf("%s, %s: %s (%s)", p.where, level, result.ForbiddenReason, result.ForbiddenDetail))
				}
			}
		}
		return problems
	}},
	// It would be the node's loopback, and Pod Security refuses it from 1.34 on.
	{"no probe or hook names a host", func(p pod) (problems []string) {
		for _, c := range p.containers() {
			for _, handler := range handlers(c) {
				if handler.HTTPGet != nil && handler.HTTPGet.Host != "" || handler.TCPSocket != nil && handler.TCPSocket.Host != "" {
					problems = append(problems, p.says(c, "a probe or hook names a host"))
				}
			}
		}
		return problems
	}},
	// What is mounted so never changes, so that a rotated secret would not arrive.
	{"no subPath", func(p pod) (problems []string) {
		for _, c := range p.containers() {
			for _, mount := range c.VolumeMounts {
				if mount.SubPath != "" || mount.SubPathExpr != "" {
					problems = append(problems, p.says(c, "%s is mounted by a subPath", mount.Name))
				}
			}
		}
		return problems
	}},
	{"bearerd's image is named by digest", func(p pod) (problems []string) {
		for _, c := range p.containers() {
			if isBearerd(c) && !digest.MatchString(c.Image) {
				problems = append(problems, p.says(c, "image %s", c.Image))
			}
		}
		return problems
	}},
	{"the sidecar is a native one, and first", func(p pod) (problems []string) {
		sidecar := p.sidecar()
		if sidecar == nil {
			return nil
		}
		if p.template.Spec.InitContainers[0].Name != sidecar.Name {
			problems = append(problems, p.says(*sidecar, "is not the first init container"))
		}
		if sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			problems = append(problems, p.says(*sidecar, "has not restartPolicy: Always"))
		}
		return problems
	}},
	{"the sidecar is the one of sidecar.yaml", func(p pod) []string {
		sidecar := p.sidecar()
		if sidecar == nil {
			return nil
		}
		return compareSidecar(p, *sidecar)
	}},
	// The first would take the pod out of its Services when the provider fails, the second would run before the app is done.
	{"no readiness probe and no preStop on the sidecar", func(p pod) (problems []string) {
		if sidecar := p.sidecar(); sidecar != nil {
			if sidecar.ReadinessProbe != nil {
				problems = append(problems, p.says(*sidecar, "has a readiness probe"))
			}
			if sidecar.Lifecycle != nil {
				problems = append(problems, p.says(*sidecar, "has a lifecycle hook"))
			}
		}
		return problems
	}},
	{"nobody but bearerd has bearerd's secrets", secretsOfOthers},
	// As bearerd's user, or seeing its processes, the app could read them through /proc.
	{"the app is another user than the sidecar, with processes of its own", func(p pod) (problems []string) {
		if p.sidecar() == nil {
			return nil
		}
		spec := p.template.Spec
		if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
			problems = append(problems, p.where+": shareProcessNamespace")
		}
		for _, c := range p.containers() {
			user := (*int64)(nil)
			if spec.SecurityContext != nil {
				user = spec.SecurityContext.RunAsUser
			}
			if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
				user = c.SecurityContext.RunAsUser
			}
			if !isBearerd(c) && user != nil && *user == 65532 {
				problems = append(problems, p.says(c, "runs as bearerd's user"))
			}
		}
		return problems
	}},
	{"every container has requests, and bearerd no CPU limit", func(p pod) (problems []string) {
		for _, c := range p.containers() {
			for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if _, requested := c.Resources.Requests[resource]; !requested {
					problems = append(problems, p.says(c, "requests no %s", resource))
				}
			}
			if _, limited := c.Resources.Limits[corev1.ResourceCPU]; limited && isBearerd(c) {
				problems = append(problems, p.says(c, "has a CPU limit"))
			}
		}
		return problems
	}},
	{"volumes, mounts and ports fit together", fit},
}

// Every probe and hook of a container.
func handlers(c corev1.Container) (found []corev1.LifecycleHandler) {
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if probe != nil {
			found = append(found, corev1.LifecycleHandler{
				Exec: probe.Exec, HTTPGet: probe.HTTPGet, TCPSocket: probe.TCPSocket,
			})
		}
	}
	if c.Lifecycle != nil {
		for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if hook != nil {
				found = append(found, *hook)
			}
		}
	}
	return found
}

func secretsOfOthers(p pod) (problems []string) {
	names, volumes := map[string]bool{}, map[string]bool{}
	sources := map[string]corev1.Volume{}
	for _, volume := range p.template.Spec.Volumes {
		sources[volume.Name] = volume
	}
	for _, c := range p.containers() {
		for _, mount := range c.VolumeMounts {
			volume := sources[mount.Name]
			if isBearerd(c) && (volume.Secret != nil || volume.CSI != nil || volume.Projected != nil) {
				volumes[volume.Name] = true
				if volume.Secret != nil {
					names[volume.Secret.SecretName] = true
				}
			}
		}
	}
	for _, c := range p.containers() {
		if isBearerd(c) {
			continue
		}
		for _, mount := range c.VolumeMounts {
			secret := sources[mount.Name].Secret
			if volumes[mount.Name] || secret != nil && names[secret.SecretName] {
				problems = append(problems, p.says(c, "mounts %s, which bearerd's secrets are in", mount.Name))
			}
		}
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil && names[from.SecretRef.Name] {
				problems = append(problems, p.says(c, "has bearerd's secrets in its environment"))
			}
		}
		for _, variable := range c.Env {
			if from := variable.ValueFrom; from != nil && from.SecretKeyRef != nil && names[from.SecretKeyRef.Name] {
				problems = append(problems, p.says(c, "has bearerd's secret in %s", variable.Name))
			}
		}
	}
	return problems
}

// What the API server refuses and no schema says.
func fit(p pod) (problems []string) {
	mounted := map[string]bool{}
	names := map[string]bool{}
	volumes := map[string]bool{}
	for _, volume := range p.template.Spec.Volumes {
		if volumes[volume.Name] {
			problems = append(problems, p.where+": two volumes "+volume.Name)
		}
		volumes[volume.Name] = true
	}
	for _, c := range p.containers() {
		if names[c.Name] {
			problems = append(problems, p.where+": two containers "+c.Name)
		}
		names[c.Name] = true
		paths, ports := map[string]bool{}, map[string]bool{}
		for _, mount := range c.VolumeMounts {
			mounted[mount.Name] = true
			if !volumes[mount.Name] {
				problems = append(problems, p.says(c, "mounts %s, and there is no such volume", mount.Name))
			}
			if paths[mount.MountPath] {
				problems = append(problems, p.says(c, "two mounts at %s", mount.MountPath))
			}
			paths[mount.MountPath] = true
		}
		for _, port := range c.Ports {
			ports[port.Name] = true
			if len(port.Name) > 15 {
				problems = append(problems, p.says(c, "the port's name %s is longer than 15", port.Name))
			}
		}
		for _, handler := range handlers(c) {
			if get := handler.HTTPGet; get != nil && get.Port.Type == intstr.String && !ports[get.Port.StrVal] {
				problems = append(problems, p.says(c, "a probe names the port %s, and there is none", get.Port.StrVal))
			}
		}
	}
	for name := range volumes {
		if !mounted[name] {
			problems = append(problems, p.where+": nobody mounts the volume "+name)
		}
	}
	return problems
}

// What may differ: the digest, further mounts, no mount of secrets, environment, ports, and probes on the health port.
func compareSidecar(p pod, sidecar corev1.Container) (problems []string) {
	content, err := os.ReadFile("sidecar.yaml")
	if err != nil {
		return []string{err.Error()}
	}
	var expected corev1.Container
	if err := syaml.UnmarshalStrict(content, &expected); err != nil {
		return []string{err.Error()}
	}
	if !strings.HasPrefix(sidecar.Image, repository+"@") {
		problems = append(problems, p.says(sidecar, "image %s", sidecar.Image))
	}
	mounts := map[string]corev1.VolumeMount{}
	for _, mount := range sidecar.VolumeMounts {
		mounts[mount.Name] = mount
	}
	for _, mount := range expected.VolumeMounts {
		actual, is := mounts[mount.Name]
		if !is && mount.Name == "bearerd-secrets" {
			continue
		}
		if !equality.Semantic.DeepEqual(actual, mount) {
			problems = append(problems, p.says(sidecar, "the mount of %s is not as in sidecar.yaml", mount.Name))
		}
	}
	for _, one := range []struct{ actual, expected *corev1.Probe }{
		{sidecar.StartupProbe, expected.StartupProbe}, {sidecar.LivenessProbe, expected.LivenessProbe},
	} {
		path := "/livez"
		if one.expected == expected.StartupProbe {
			path = "/startupz"
		}
		onPort := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("bearerd-health")}}
		if one.actual != nil && equality.Semantic.DeepEqual(one.actual.ProbeHandler, onPort) {
			one.expected.ProbeHandler = onPort
		}
	}
	expected.Image, expected.VolumeMounts = sidecar.Image, sidecar.VolumeMounts
	expected.Env, expected.Ports = sidecar.Env, sidecar.Ports
	if !equality.Semantic.DeepEqual(sidecar, expected) {
		actual, _ := syaml.Marshal(sidecar)
		wanted, _ := syaml.Marshal(expected)
		problems = append(problems, p.says(sidecar, "is not that of sidecar.yaml:\n%s\nbut should be\n%s", actual, wanted))
	}
	return problems
}

var objectRules = []objectRule{
	{"every selector finds its pods", func(objects []object) (problems []string) {
		pods := podsOf(objects)
		for _, o := range objects {
			switch typed := o.typed.(type) {
			case *appsv1.Deployment:
				problems = append(problems, selects(o, typed.Spec.Selector, typed.Spec.Template.Labels)...)
			case *appsv1.StatefulSet:
				problems = append(problems, selects(o, typed.Spec.Selector, typed.Spec.Template.Labels)...)
			case *appsv1.DaemonSet:
				problems = append(problems, selects(o, typed.Spec.Selector, typed.Spec.Template.Labels)...)
			case *corev1.Service:
				problems = append(problems, serves(o, typed, pods)...)
			}
		}
		return problems
	}},
	{"no object twice", func(objects []object) (problems []string) {
		seen := map[string]bool{}
		for _, o := range objects {
			key := o.GetAPIVersion() + " " + o.GetNamespace() + " " + o.where()
			if seen[key] {
				problems = append(problems, o.where()+" stands there twice")
			}
			seen[key] = true
		}
		return problems
	}},
}

func selects(o object, by *metav1.LabelSelector, of map[string]string) []string {
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(of)) {
		return []string{fmt.Sprintf("%s: its selector does not find its own template (%v)", o.where(), err)}
	}
	return nil
}

// A Service finds a pod, and that pod has the ports it names.
func serves(o object, service *corev1.Service, pods []pod) []string {
	for _, pod := range pods {
		if len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.template.Labels)) {
			continue
		}
		ports := map[string]bool{}
		for _, c := range pod.containers() {
			for _, port := range c.Ports {
				ports[port.Name] = true
			}
		}
		for _, port := range service.Spec.Ports {
			if port.TargetPort.Type == intstr.String && !ports[port.TargetPort.StrVal] {
				return []string{fmt.Sprintf("%s: %s has no port %s", o.where(), pod.where, port.TargetPort.StrVal)}
			}
		}
		return nil
	}
	return []string{o.where() + ": it finds no pod"}
}
