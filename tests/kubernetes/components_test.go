// What a team does with the components: copies them, labels workloads of any kind, and follows k8s/README.md.
package kubernetes

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// An app as it may be found: with init containers, a volume and settings of its own.
const anyPod = `metadata: {labels: {app: a}}
spec:
  restartPolicy: RESTART
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  initContainers: [{name: migrate, CONTAINER}, {name: fill, CONTAINER}]
  containers: [{name: app, CONTAINER}]
  volumes: [{name: data, emptyDir: {}}]
`

const anyContainer = `image: a, volumeMounts: [{name: data, mountPath: /data}], ` +
	`resources: {requests: {cpu: 1m, memory: 1Mi}}, ` +
	`securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}`

// One of each kind with the label, and one without.
func workloads() string {
	indented := func(by int, text string) string {
		return strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+strings.Repeat(" ", by))
	}
	workload := func(kind, api, name, label, head, restart string, deep int) string {
		pod := strings.NewReplacer("RESTART", restart, "CONTAINER", anyContainer).Replace(anyPod)
		return "apiVersion: " + api + "\nkind: " + kind + "\nmetadata: {name: " + name + label + "}\nspec:\n" + head +
			strings.Repeat(" ", deep-2) + "template:\n" + strings.Repeat(" ", deep) + indented(deep, pod) + "\n"
	}
	const label, selector = `, labels: {bearerd.dev/inject: "true"}`, "  selector: {matchLabels: {app: a}}\n"
	return strings.Join([]string{
		workload("Deployment", "apps/v1", "a", label, selector, "Always", 4),
		workload("StatefulSet", "apps/v1", "a", label, selector+"  serviceName: a\n", "Always", 4),
		workload("DaemonSet", "apps/v1", "a", label, selector, "Always", 4),
		workload("Job", "batch/v1", "a", label, "", "Never", 4),
		workload("CronJob", "batch/v1", "a", label, "  schedule: '@daily'\n  jobTemplate:\n    spec:\n", "Never", 8),
		workload("Deployment", "apps/v1", "unlabelled", "", selector, "Always", 4),
	}, "---\n")
}

// A folder `app` with these files, and a copy of the components beside it in `bearerd/components`.
func teams(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "bearerd/components"), os.DirFS(filepath.Join(k8s, "components"))); err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(root, "app")
	if err := os.Mkdir(app, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(app, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return app
}

// The pods that Kustomize makes of the folder, by where they stand.
func templates(t *testing.T, app string) map[string]corev1.PodTemplateSpec {
	t.Helper()
	objects, err := decoded(rendered(t, app))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]corev1.PodTemplateSpec{}
	for _, pod := range podsOf(objects) {
		found[pod.where] = pod.template
	}
	return found
}

func components(t *testing.T) (names []string) {
	entries, err := os.ReadDir(filepath.Join(k8s, "components"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Each component has its patch twice, once for CronJobs: all kinds have to end in the same pod.
func TestComponents(t *testing.T) {
	for _, component := range components(t) {
		t.Run(component, func(t *testing.T) {
			kustomization := "resources: [all.yaml]\ncomponents:\n  - ../bearerd/components/sidecar\n"
			if component != "sidecar" {
				kustomization += "  - ../bearerd/components/" + component + "\n"
			}
			before := templates(t, teams(t, map[string]string{
				"all.yaml": workloads(), "kustomization.yaml": "resources: [all.yaml]\n",
			}))
			after := templates(t, teams(t, map[string]string{
				"all.yaml": workloads(), "kustomization.yaml": kustomization,
			}))
			if !equality.Semantic.DeepEqual(before["Deployment/unlabelled"], after["Deployment/unlabelled"]) {
				t.Error("a workload without the label is changed")
			}
			expected := after["Deployment/a"]
			for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
				had, has := before[kind+"/a"], after[kind+"/a"]
				// What was there stays, in its order; the first of the init containers is new.
				spec := has.Spec.DeepCopy()
				spec.InitContainers = spec.InitContainers[1:]
				spec.Volumes = spec.Volumes[len(spec.Volumes)-1:]
				if !equality.Semantic.DeepEqual(*spec, had.Spec) {
					t.Errorf("%s: something of the app's is changed: %+v, and was %+v", kind, *spec, had.Spec)
				}
				if !reflect.DeepEqual(has.Labels, map[string]string{"app": "a", "bearerd.dev/inject": "true"}) {
					t.Errorf("%s: labels %v", kind, has.Labels)
				}
				for _, rule := range podRules {
					report(t, rule.broken(pod{kind, has}))
				}
				has.Spec.RestartPolicy = expected.Spec.RestartPolicy
				if !equality.Semantic.DeepEqual(has, expected) {
					t.Errorf("%s is not as a Deployment: %+v, not %+v", kind, has, expected)
				}
			}
		})
	}
}

var fence = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// The blocks of k8s/README.md, in the folder of somebody who follows it.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(k8s, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(start string) string {
		for _, found := range fence.FindAllStringSubmatch(string(page), -1) {
			if strings.HasPrefix(found[1], start) {
				return found[1]
			}
		}
		t.Fatalf("no block begins with %q", start)
		return ""
	}
	deployment := strings.Replace(strings.SplitN(workloads(), "---\n", 2)[0], `metadata: {name: a, labels: {bearerd.dev/inject: "true"}}`+"\n",
		block("# deployment.yaml"), 1)
	files := map[string]string{
		"deployment.yaml": deployment,
		"config.yaml":     block("tokens:"),
		"kustomization.yaml": strings.Replace(block("# kustomization.yaml"), "  - name: bearerd\n", "  - name: orders-bearerd\n", 1) +
			block("patches:"),
	}
	app := teams(t, files)
	orders := templates(t, app)["Deployment/orders"]
	if got := orders.Spec.InitContainers[0].Image; !strings.HasPrefix(got, "registry.example.com/bearerd@sha256:") {
		t.Errorf("the image is %s", got)
	}
	if config, secret := sources(orders); config != "orders-bearerd" || secret != "orders-client" {
		t.Errorf("the ConfigMap is %q, and the Secret %q", config, secret)
	}
	if !strings.Contains(string(rendered(t, app)), "kind: ConfigMap\nmetadata:\n  name: orders-bearerd\n") {
		t.Error("there is no such ConfigMap")
	}
}

// The names of the ConfigMap and the Secret that the sidecar has.
func sources(template corev1.PodTemplateSpec) (config, secret string) {
	for _, volume := range template.Spec.Volumes {
		switch volume.Name {
		case "bearerd-config":
			config = volume.ConfigMap.Name
		case "bearerd-secrets":
			secret = volume.Secret.SecretName
		}
	}
	return config, secret
}

// What a kustomization says of all names and images holds for the sidecar of each kind of workload; a Secret that is made by
// hand keeps its name.
func TestNamesAndImagesOfTheKustomization(t *testing.T) {
	found := templates(t, teams(t, map[string]string{
		"all.yaml":    workloads(),
		"config.yaml": "routes: []\n",
		"kustomization.yaml": "resources: [all.yaml]\ncomponents: [../bearerd/components/sidecar]\nnamePrefix: team-\n" +
			"configMapGenerator: [{name: bearerd, files: [config.yaml], options: {disableNameSuffixHash: true}}]\n" +
			"images: [{name: " + repository + ", newName: example.com/bearerd, digest: 'sha256:one'}]\n",
	}))
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
		template, is := found[kind+"/team-a"]
		if !is {
			t.Fatalf("no %s", kind)
		}
		if config, secret := sources(template); config != "team-bearerd" || secret != "bearerd" {
			t.Errorf("%s: the ConfigMap is %q, and the Secret %q", kind, config, secret)
		}
		if image := template.Spec.InitContainers[0].Image; image != "example.com/bearerd@sha256:one" {
			t.Errorf("%s: the image is %s", kind, image)
		}
	}
}
