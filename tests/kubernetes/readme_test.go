// k8s/inject/README.md, followed to the letter.
package kubernetes

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)```\n")

// A copy of the folder, and beside it `ours` with that kustomization, rendered.
func ours(t *testing.T, kustomization string) []byte {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "inject"), os.DirFS(filepath.Join(k8s, "inject"))); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "ours")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(kustomization), 0o644); err != nil {
		t.Fatal(err)
	}
	return rendered(t, folder)
}

func TestInjectReadme(t *testing.T) {
	page, err := os.ReadFile(k8s + "/inject/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var install, beta string
	for _, block := range yamlBlock.FindAllSubmatch(page, -1) {
		switch text := string(block[1]); {
		case strings.HasPrefix(text, "apiVersion: kustomize"):
			install = text
		case strings.HasPrefix(text, "patches:\n"):
			beta = strings.TrimPrefix(text, "patches:\n")
		}
	}
	own := strings.ReplaceAll(install, strings.Repeat("0", 64), strings.Repeat("a", 64))
	for _, way := range []string{"mutating-admission-policy", "kyverno"} {
		t.Run(way, func(t *testing.T) {
			content := ours(t, strings.Replace(own, "../inject/mutating-admission-policy ", "../inject/"+way+" ", 1))
			objects, err := decoded(content)
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) < 3 || !strings.Contains(string(content), strings.Repeat("a", 64)) {
				t.Fatalf("%s", content)
			}
		})
	}
	t.Run("Kubernetes 1.34 and 1.35", func(t *testing.T) {
		content := ours(t, own+beta)
		objects, err := decoded(content)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, o := range objects {
			if strings.HasPrefix(o.GetKind(), "Mutating") {
				found = append(found, o.GetAPIVersion())
			}
		}
		if !slices.Equal(found, []string{"admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io/v1beta1"}) {
			t.Fatalf("%v in %s", found, content)
		}
		leaveForSchemas(t, "inject-1.34-and-1.35", content)
	})
}
