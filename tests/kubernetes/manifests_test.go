// What k8s/ holds, rendered as `kubectl kustomize` does, compared with golden/, and held to rules_test.go.
package kubernetes

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	syaml "sigs.k8s.io/yaml"
)

const k8s = "../../k8s"

// Kinds of others, which neither Kubernetes' types nor its schemas know.
func isForeign(o object) bool {
	kinds, err := os.ReadFile("foreign.txt")
	if err != nil {
		panic(err)
	}
	return slices.Contains(strings.Split(string(kinds), "\n"), o.GetAPIVersion()+" "+o.GetKind())
}

type object struct {
	unstructured.Unstructured
	typed runtime.Object // nil for a foreign kind
}

func (o object) where() string { return o.GetKind() + "/" + o.GetName() }

// A pod, or the template of one, and where it stands.
type pod struct {
	where    string
	template corev1.PodTemplateSpec
}

// The folders that render: every kustomization under k8s/ that is no component, by the name of its golden file.
func kustomizations(t *testing.T) map[string]string {
	found := map[string]string{}
	err := filepath.Walk(k8s, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Name() != "kustomization.yaml" {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && !bytes.Contains(content, []byte("\nkind: Component\n")) {
			folder := filepath.Dir(path)
			relative, _ := filepath.Rel(k8s, folder)
			found[strings.ReplaceAll(strings.TrimPrefix(relative, "examples/"), "/", "-")] = folder
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func rendered(t *testing.T, folder string) []byte {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	out, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Decodes each document into Kubernetes' own types, with unknown and repeated fields as errors.
func decoded(content []byte) ([]object, error) {
	var objects []object
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var o object
		if err := syaml.UnmarshalStrict(document, &o.Object); err != nil {
			return nil, err
		}
		if len(o.Object) == 0 {
			continue
		}
		if !isForeign(o) {
			if o.typed, _, err = strict.Decode(document, nil, nil); err != nil {
				return nil, err
			}
		}
		objects = append(objects, o)
	}
}

func podsOf(objects []object) []pod {
	var pods []pod
	for _, o := range objects {
		switch typed := o.typed.(type) {
		case *corev1.Pod:
			pods = append(pods, pod{o.where(), corev1.PodTemplateSpec{ObjectMeta: typed.ObjectMeta, Spec: typed.Spec}})
		case *appsv1.Deployment:
			pods = append(pods, pod{o.where(), typed.Spec.Template})
		case *appsv1.StatefulSet:
			template := *typed.Spec.Template.DeepCopy()
			for _, claim := range typed.Spec.VolumeClaimTemplates {
				source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}
				template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: source})
			}
			pods = append(pods, pod{o.where(), template})
		case *appsv1.DaemonSet:
			pods = append(pods, pod{o.where(), typed.Spec.Template})
		case *batchv1.Job:
			pods = append(pods, pod{o.where(), typed.Spec.Template})
		case *batchv1.CronJob:
			pods = append(pods, pod{o.where(), typed.Spec.JobTemplate.Spec.Template})
		}
	}
	return pods
}

// Holds rendered manifests to their golden file and to the rules, and leaves them for validate.py.
func checkManifests(t *testing.T, name string, content []byte) {
	t.Run("as in golden", func(t *testing.T) { golden(t, name, content) })
	leaveForSchemas(t, name, content)
	var objects []object
	t.Run("every field is known to its type", func(t *testing.T) {
		var err error
		if objects, err = decoded(content); err != nil {
			t.Fatal(err)
		}
		if len(objects) == 0 {
			t.Fatal("nothing is rendered")
		}
	})
	for _, rule := range objectRules {
		t.Run(rule.name, func(t *testing.T) { report(t, rule.broken(objects)) })
	}
	for _, rule := range podRules {
		t.Run(rule.name, func(t *testing.T) {
			for _, pod := range podsOf(objects) {
				report(t, rule.broken(pod))
			}
		})
	}
}

func report(t *testing.T, problems []string) {
	for _, problem := range problems {
		t.Error(problem)
	}
}

func golden(t *testing.T, name string, content []byte) {
	path := filepath.Join("golden", name+".yaml")
	if os.Getenv("BLESS") == "1" {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	expected, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; BLESS=1 writes it", err)
	}
	if !bytes.Equal(expected, content) {
		difference := exec.Command("diff", "-u", path, "-")
		difference.Stdin = bytes.NewReader(content)
		out, _ := difference.Output()
		t.Fatalf("differs from %s; BLESS=1 renews it\n%s", path, out)
	}
}

// The folder that run.mjs hands to validate.py.
func leaveForSchemas(t *testing.T, name string, content []byte) {
	folder := os.Getenv("RENDERED")
	if folder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(folder, name+".yaml"), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestManifests(t *testing.T) {
	folders := kustomizations(t)
	if len(folders) == 0 {
		t.Fatal("no kustomization below " + k8s)
	}
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		t.Run(name, func(t *testing.T) { checkManifests(t, name, rendered(t, folders[name])) })
	}
}

// A golden file that nothing renders any more.
func TestGoldenFilesAreUsed(t *testing.T) {
	used := kustomizations(t)
	for name := range charts(t) {
		used[name] = ""
	}
	pods, err := filepath.Glob("pods/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		used["injected-"+strings.TrimSuffix(filepath.Base(pod), ".yaml")] = ""
	}
	files, err := filepath.Glob("golden/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, is := used[strings.TrimSuffix(filepath.Base(file), ".yaml")]; !is {
			t.Errorf("%s: nothing renders it", file)
		}
	}
}
